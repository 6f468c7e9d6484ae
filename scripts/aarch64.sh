#!/usr/bin/env bash
# `cargo build` for the boards (64-bit ARM), on a PC with Debian: aarch64.sh build --release --package anemiad. What is built
# runs from glibc 2.27 on, which is that of JetPack 4.6. Fetches into .deps/aarch64 what that needs and is not there yet, without
# installing anything: a compiler with the standard libraries of both machines, zig as the linker, and GStreamer of Debian for
# ARM, whose libraries also serve to run the programs under qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."
self=scripts/aarch64.sh
[ "$(uname -m)" = x86_64 ] || { echo "aarch64: this is for a PC (x86-64); elsewhere use cargo itself" >&2; exit 1; }
glibc=2.27
folder=$PWD/.deps/aarch64
requirements=scripts/requirements-aarch64.txt

# The compiler, as Debian builds it for its browsers: the only one in Debian 12 that is new enough. Its version is in the names of
# two of its packages, and it must be one version for both machines.
compiler=(rustc-web libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64)
libraries=(
    # What is linked, and in turn asked for by pkg-config.
    libgstreamer1.0-0 libgstreamer1.0-dev libgstreamer-plugins-base1.0-0 libgstreamer-plugins-base1.0-dev
    libglib2.0-0 libglib2.0-dev libffi8 libffi-dev libpcre2-8-0 libpcre2-dev zlib1g zlib1g-dev libmount1 libmount-dev
    libblkid1 libblkid-dev libselinux1 libselinux1-dev libsepol2 libsepol-dev libdw1 libdw-dev libelf1 libelf-dev libunwind8
    libunwind-dev liblzma5 liblzma-dev libbz2-1.0 libcap2 liborc-0.4-0 liborc-0.4-dev
    # What tells since which version there is each function of GLib.
    libgirepository1.0-dev
    # What running needs besides.
    gstreamer1.0-plugins-base libc6 libgcc-s1 libstdc++6
)

fetch() {
    echo "aarch64: fetching a compiler and libraries"
    local work=$folder.partial
    rm -rf "$work"
    mkdir -p "$work"/{apt/lists,apt/cache/archives}/partial "$work"/{rust,sysroot,debs}
    # Lists of our own: those of the machine know no packages for ARM, and need not.
    local apt=(apt-get -q -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o APT::Architectures::=amd64
        -o APT::Architectures::=arm64 -o APT::Sandbox::User=root)
    "${apt[@]}" update >/dev/null
    depends_of() {
        apt-cache -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" depends "$1" |
            awk '$1 == "Depends:" { print $2 }'
    }
    local std llvm
    std=$(depends_of libstd-rust-web-dev | grep -m1 '^libstd-rust-web-') && llvm=$(depends_of "$std" | grep -m1 '^libllvm') ||
        { echo "aarch64: no rustc-web here; it comes with the security updates of Debian 12" >&2; exit 1; }
    (cd "$work/debs" && mkdir rust sysroot &&
        (cd rust && "${apt[@]}" download "${compiler[@]}" "$llvm" "$std:amd64" "$std:arm64") &&
        (cd sysroot && "${apt[@]}" download "${libraries[@]/%/:arm64}")) >/dev/null
    local tree deb
    for tree in rust sysroot; do
        for deb in "$work/debs/$tree"/*.deb; do dpkg -x "$deb" "$work/$tree"; done
    done
    # ONNX Runtime looks here which processors there are, and falls over those of a PC: these are some of a TX2 NX.
    mkdir "$work/sysroot/proc"
    local number
    for ((number = 0; number < $(nproc); number++)); do
        printf 'processor\t: %s\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32\nCPU implementer\t: 0x41\n' "$number"
        printf 'CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd07\nCPU revision\t: 3\n\n'
    done >"$work/sysroot/proc/cpuinfo"
    cat >"$work/rustc" <<'END'
#!/bin/sh
here=$(dirname "$0")
LD_LIBRARY_PATH=$here/rust/usr/lib/x86_64-linux-gnu exec "$here/rust/usr/bin/rustc" "$@"
END
    chmod +x "$work/rustc"
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: --require-hashes \
        --target "$work/zig" --requirement "$requirements"
    rm -rf "$work/debs" "$work/apt"
    cat "$self" "$requirements" >"$work/installed-from"
    rm -rf "$folder"
    mv "$work" "$folder"
}
cat "$self" "$requirements" | cmp -s - "$folder/installed-from" || fetch

sysroot=$folder/sysroot
export RUSTC=$folder/rustc
# Only for what is built for ARM: build scripts run here.
export PKG_CONFIG_ALLOW_CROSS=1
export PKG_CONFIG_SYSROOT_DIR_aarch64_unknown_linux_gnu=$sysroot
export PKG_CONFIG_LIBDIR_aarch64_unknown_linux_gnu=$sysroot/usr/lib/aarch64-linux-gnu/pkgconfig:$sysroot/usr/share/pkgconfig
export CARGO_ZIGBUILD_ZIG_PATH=$folder/zig/ziglang/zig
# zig names its headers from the folder where it is called if they are in it, and what reads them runs elsewhere.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/aarch64
cd daemon
[ "${1:-}" = build ] || { echo "usage: aarch64.sh build OPTION…" >&2; exit 2; }
PATH="$folder/zig/bin:$PATH" cargo zigbuild --target "aarch64-unknown-linux-gnu.$glibc" \
    --target-dir "$target" "${@:2}"
