#!/usr/bin/env bash
# Installs what is missing, builds, and passes the whole test suite.
# Safe to run again.
#
#   installer/test.sh [ctest arguments]      e.g.  installer/test.sh -L quick
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_packages "$root/installer/packages.txt" "$root/installer/packages-test.txt"

fetch_swiftshader

say "Building (warnings are errors) in build/ci"
fresh=() # a build from nothing is quicker with precompiled headers; one that is there stays as it is
[[ -f "$root/build/ci/CMakeCache.txt" ]] || fresh=(-DNIBBLE_PRECOMPILE=ON)
cmake --preset ci -S "$root" "${fresh[@]}" >/dev/null
cmake --build "$root/build/ci" -j "$cores"

say "Formatting"
if command -v clang-format >/dev/null; then
    git -C "$root" ls-files '*.cpp' '*.h' | (cd "$root" && xargs clang-format --dry-run --Werror)
    echo "clang-format: clean"
fi

say "Tests"
export QT_QPA_PLATFORM=offscreen
ctest --test-dir "$root/build/ci" --output-on-failure -j "$cores" "$@"
