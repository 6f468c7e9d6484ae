#!/usr/bin/env bash
# Installs what building and running need, and with an argument what more that needs: `test`, `memory`, `kiosk`, `vm` (the
# emulated kiosk), `deb` (packages), `aarch64` (programs for the boards), `vm-arm` (an emulated kiosk for them). Nothing
# that is there already. These are Debian packages, and libonnxruntime.so in .deps/onnxruntime.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || packages+=("$2")
}
need cc build-essential
need pkg-config pkg-config
# Cameras: the headers of GStreamer, and the libclang that reads those of the kernel.
pkg-config --exists gstreamer-app-1.0 gstreamer-video-1.0 2>/dev/null ||
    packages+=(libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev)
compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null || # Not libclang-cpp, which others bring along.
    packages+=(libclang-dev)
[ "${1:-}" != test ] || need mosquitto mosquitto
# A clock that is wrong, for one process.
[ "${1:-}" != test ] || need faketime faketime
# What others sign bundles with.
[ "${1:-}" != test ] || need minisign minisign
# What reads the units.
[ "${1:-}" != test ] || need systemd-analyze systemd
[ "${1:-}" != test ] || need curl curl
# Sources for tests, such as a test picture; also what `anemiad` itself needs to run a pipeline.
plugin() { # FILE PACKAGE
    [ -e "/usr/lib/$(uname -m)-linux-gnu/gstreamer-1.0/$1" ] || packages+=("$2")
}
plugin libgstvideotestsrc.so gstreamer1.0-plugins-base
[ "${1:-}" != test ] || plugin libgstpng.so gstreamer1.0-plugins-good
[ "${1:-}" != bench-capture ] || compgen -G '/usr/lib/*/libyuv.so.0' >/dev/null || packages+=(libyuv0)
if [ "${1:-}" = kiosk ]; then
    need chromium chromium
    need chromedriver chromium-driver
    need mosquitto mosquitto
    need curl curl
fi
[ "${1:-}" != bench-outbox ] || need mosquitto_pub mosquitto-clients
[ "${1:-}" != memory ] || need valgrind valgrind
case ${1:-} in deb | vm)
    need dpkg-buildpackage dpkg-dev
    need dh debhelper
    ;;
esac
[ "${1:-}" != aarch64 ] || need qemu-aarch64-static qemu-user-static
[ "${1:-}" != vm-arm ] || need qemu-system-aarch64 qemu-system-arm
if [ "${1:-}" = vm ]; then
    need qemu-system-x86_64 qemu-system-x86
    need debootstrap debootstrap
    # Not the command busybox: that of the package busybox is linked to libraries, which an initramfs has not.
    dpkg -s busybox-static >/dev/null 2>&1 || packages+=(busybox-static)
    need cpio cpio
    need zstd zstd
    need depmod kmod
    need mke2fs e2fsprogs
    need ssh openssh-client
    need gst-launch-1.0 gstreamer1.0-tools
    # videoconvert and videotestsrc; pngdec.
    dpkg -s gstreamer1.0-plugins-base >/dev/null 2>&1 || packages+=(gstreamer1.0-plugins-base)
    dpkg -s gstreamer1.0-plugins-good >/dev/null 2>&1 || packages+=(gstreamer1.0-plugins-good)
fi
need python3 python3
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)

if [ ${#packages[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "deps: these Debian packages are missing, and there is no sudo to install them: ${packages[*]}" >&2
            exit 1
        }
        as_root=(sudo)
    fi
    echo "deps: installing ${packages[*]}"
    "${as_root[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "${packages[@]}"
fi

# ONNX Runtime for a machine: FOLDER MACHINE
onnxruntime() {
    local folder=$1 requirements=scripts/requirements-onnxruntime.txt
    if cmp -s "$requirements" "$folder/installed-from" && [ -f "$folder/ThirdPartyNotices.txt" ]; then return; fi
    echo "deps: fetching ONNX Runtime for $2"
    local work
    work=$(mktemp -d)
    # The wheel of one fixed Python version: only the library in it is used, so the machine's own Python is no matter.
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --python-version 3.11 --implementation cp --abi cp311 --platform "manylinux_2_28_$2" \
        --dest "$work" --requirement "$requirements"
    python3 - "$work" <<'PYTHON'
import glob, re, sys, zipfile
work = sys.argv[1]
(wheel,) = glob.glob(work + "/onnxruntime-*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [n for n in archive.namelist() if re.search(r"/libonnxruntime\.so(\.[0-9.]+)?$", n)]
    open(work + "/libonnxruntime.so", "wb").write(archive.read(member))
    for name in ["LICENSE", "ThirdPartyNotices.txt"]:
        open(f"{work}/{name}", "wb").write(archive.read(f"onnxruntime/{name}"))
PYTHON
    mkdir -p "$folder"
    cp "$work"/{LICENSE,ThirdPartyNotices.txt} "$folder"
    # Aside and renamed: an interrupted run leaves no half library behind.
    cp "$work/libonnxruntime.so" "$folder/.partial"
    mv "$folder/.partial" "$folder/libonnxruntime.so"
    cp "$requirements" "$folder/installed-from"
    rm -rf "$work"
}
onnxruntime .deps/onnxruntime "$(uname -m)"
[ "${1:-}" != aarch64 ] || onnxruntime .deps/onnxruntime-arm64 aarch64

# The accessibility checker axe, a script that a package for Python happens to carry.
folder=.deps/axe
requirements=scripts/requirements-axe.txt
if [ "${1:-}" = kiosk ] && ! cmp -s "$requirements" "$folder/installed-from"; then
    echo "deps: fetching axe"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --dest "$work" --requirement "$requirements"
    mkdir -p "$folder"
    python3 -c 'import glob, sys, zipfile
(wheel,) = glob.glob(sys.argv[1] + "/*.whl")
open(sys.argv[2], "wb").write(zipfile.ZipFile(wheel).read("axe_playwright_python/axe.min.js"))' "$work" "$folder/axe.min.js"
    cp "$requirements" "$folder/installed-from"
fi
