# Shared by run.sh and test.sh: where things are, and how Debian packages are installed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cores=$(nproc)

say() { printf '\n== %s\n' "$*"; }

# as_root COMMAND…: directly as root, through sudo otherwise.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "This step needs root, and sudo is not installed. As root, run: $*" >&2
        exit 1
    fi
}

# install_packages LIST…: installs the packages of those lists that are missing; nothing else is touched.
install_packages() {
    local wanted missing=() package
    wanted=$(cat "$@" | sed 's/#.*//' | tr -s ' \n' '\n' | sort -u)
    for package in $wanted; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        say "All Debian packages are installed"
        return
    fi
    say "Installing ${#missing[@]} Debian packages: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# fetch_swiftshader: a second software Vulkan driver for the tests, out of Debian's chromium-common (nothing of it is
# installed or shipped). Where it cannot be had, its tests are skipped, and say so.
fetch_swiftshader() {
    local folder=${XDG_CACHE_HOME:-$HOME/.cache}/nibble/swiftshader work
    [ ! -f "$folder/icd.json" ] || return 0
    say "Fetching SwiftShader for the tests (from package chromium-common)"
    work=$(mktemp -d)
    mkdir -p "$folder"
    if (cd "$work" && apt-get download -qq chromium-common &&
        dpkg-deb --fsys-tarfile chromium-common_*.deb | tar -x -O ./usr/lib/chromium/libvk_swiftshader.so >driver.so &&
        mv driver.so "$folder/libvk_swiftshader.so"); then
        printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}\n' \
            "$folder/libvk_swiftshader.so" >"$folder/icd.json"
    else
        echo "It could not be fetched: the tests on SwiftShader will be skipped."
    fi
    rm -rf "$work"
}
