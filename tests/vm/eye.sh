#!/usr/bin/env bash
# Makes the film of the emulated kiosk: eye.sh FOLDER [ANEMIAD]. FOLDER gets phantom eyes as raw frames, an empty view,
# the file `film` that tells eye-show how long to show which, and `pictures` with the eyes as PNG. Copy it to /srv/eye
# in the kiosk. EYE_S and GAP_S are how long an eye is in view, and nothing is.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ $# -ge 1 ] || { echo "usage: eye.sh FOLDER [ANEMIAD]" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
anemiad=${2:-${CARGO_TARGET_DIR:-$project/target}/release/anemiad}

# By the models that ship, all indeterminate.
seeds=(8 16 44 21 27 58)
# Whole seconds that an eye is in view, and that nothing is. Under emulation an exam needs more than 3 s.
eye_s=${EYE_S:-3}
gap_s=${GAP_S:-2}

# What the camera says that it gives: YUYV, Rec. 709, limited range.
raw='video/x-raw,format=YUY2,width=1280,height=720,colorimetry=bt709'
frame() { # FILE SOURCE…: one frame
    local file=$1
    shift
    gst-launch-1.0 -q "$@" ! videoconvert ! "$raw" ! filesink location="$file"
    [ "$(stat -c %s "$file")" -eq $((1280 * 720 * 2)) ] || { echo "eye: $file is not one frame" >&2; exit 1; }
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder/pictures"
: >"$work/film"
frame "$folder/empty.yuyv" videotestsrc num-buffers=1 pattern=black
for seed in "${seeds[@]}"; do
    "$anemiad" phantom --out "$work" --seed "$seed" --count 1 --width 1280 --height 720 >/dev/null
    picture=$(printf 'phantom-%04d' "$seed")
    mv "$work/pictures/$picture.png" "$folder/pictures/"
    frame "$folder/$picture.yuyv" filesrc location="$folder/pictures/$picture.png" ! pngdec
    printf '%s\n' "$eye_s $picture.yuyv" "$gap_s empty.yuyv" >>"$work/film"
done
mv "$work/film" "$folder/film"
