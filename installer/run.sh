#!/usr/bin/env bash
# Installs what is missing, builds Nibble, and opens the workbench on the bundled sample model.
# Without a display it does the same job in the terminal and renders every mode to PNG.
# Safe to run again: only what changed is built.
#
#   installer/run.sh [MODEL]      MODEL: a GGUF file or a safetensors folder; default: the sample
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_packages "$root/installer/packages.txt"

say "Building (release) in build/release"
cmake --preset release -S "$root" >/dev/null
cmake --build "$root/build/release" -j "$cores"

model=${1:-sample}
cli=$root/build/release/app/cli/nibble-cli
gui=$root/build/release/app/gui/nibble

if [ -n "${DISPLAY:-}" ] || [ -n "${WAYLAND_DISPLAY:-}" ]; then
    say "Opening the workbench"
    if [ "$model" = sample ]; then exec "$gui"; else exec "$gui" "$model"; fi
fi

say "No display: the same job in the terminal"
say "What each level costs: nibble-cli ladder $model"
"$cli" ladder "$model"
say "One answer: nibble-cli chat $model --prompt 'What sound does a cow make?'"
"$cli" chat "$model" --prompt "What sound does a cow make?" --temperature 0 --max-tokens 60
pictures=$root/build/screenshots
say "Every mode as a picture: nibble --screenshot $pictures"
mkdir -p "$pictures"
if [ "$model" = sample ]; then "$gui" --screenshot "$pictures"; else "$gui" --screenshot "$pictures" "$model"; fi
ls "$pictures"/*.png
