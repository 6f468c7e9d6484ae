#!/usr/bin/env bash
# In the emulated kiosk: plays a film into the output of vivid, which its capture node shows, for ever. The film is the
# file /srv/eye/film, with a line SECONDS PICTURE for each scene; a picture is one raw frame beside it.
# eye-show --prepare NODE sets the capture node up; udev calls it.
set -euo pipefail

# 1280×720 at 30 Hz is 60 Hz, which vivid starts with, with longer lines.
timings=width=1280,height=720,hfp=1760
if [ "${1:-}" = --prepare ]; then
    # What the output shows, without the figures that vivid writes on pictures. While nothing is played it is noise.
    v4l2-ctl -d "$2" --set-dv-bt-timings "$timings"
    exec v4l2-ctl -d "$2" -c loop_video=1,osd_text_mode=2
fi

cd /srv/eye
exec {never}<> <(:)
frames() {
    local seconds picture i
    while :; do
        while read -r seconds picture; do
            # vivid shows a frame until the next one comes. Five each second, so that a lost device is noticed soon.
            for ((i = 0; i < 5 * seconds; i++)); do
                cat "$picture"
                read -rt 0.2 -u "$never" || true
            done
        done <film
    done
}
v4l2-ctl -d /dev/eye --set-dv-bt-timings "$timings" >/dev/null
v4l2-ctl -d /dev/eye --set-fmt-video-out width=1280,height=720,pixelformat=YUYV,colorspace=rec709
# It would tell the frame rate every second.
frames | v4l2-ctl -d /dev/eye --stream-out-mmap=2 --stream-from=- 2>/dev/null
