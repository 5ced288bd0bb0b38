#!/usr/bin/env bash
# Installs what is missing, builds, and passes the whole test suite.
# Safe to run again.
#
#   installer/test.sh [ctest arguments]      e.g.  installer/test.sh -L quick
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_packages "$root/installer/packages.txt" "$root/installer/packages-test.txt"

# A second Vulkan driver to test on: SwiftShader, out of Debian's chromium-common, unpacked beside the
# user's caches and not installed. Its tests are skipped, visibly, where it cannot be had.
swiftshader=${XDG_CACHE_HOME:-$HOME/.cache}/nibble/swiftshader
if [ ! -f "$swiftshader/icd.json" ]; then
    say "Fetching SwiftShader (a second Vulkan driver for the tests)"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    if (cd "$work" && apt-get download -qq chromium-common 2>/dev/null) &&
        dpkg-deb --fsys-tarfile "$work"/chromium-common_*.deb |
        tar -x -C "$work" ./usr/lib/chromium/libvk_swiftshader.so; then
        mkdir -p "$swiftshader"
        mv "$work/usr/lib/chromium/libvk_swiftshader.so" "$swiftshader/"
        printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}\n' \
            "$swiftshader/libvk_swiftshader.so" >"$swiftshader/icd.json"
    else
        echo "chromium-common cannot be downloaded: the SwiftShader tests will be skipped."
    fi
fi
export NIBBLE_SWIFTSHADER_ICD=$swiftshader/icd.json

say "Building (warnings are errors) in build/ci"
cmake --preset ci -S "$root" >/dev/null
cmake --build "$root/build/ci" -j "$cores"

say "Formatting"
if command -v clang-format >/dev/null; then
    git -C "$root" ls-files '*.cpp' '*.h' | (cd "$root" && xargs clang-format --dry-run --Werror)
    echo "clang-format: clean"
fi

say "Tests"
export QT_QPA_PLATFORM=offscreen
ctest --test-dir "$root/build/ci" --output-on-failure -j "$cores" "$@"
