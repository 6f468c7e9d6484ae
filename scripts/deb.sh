#!/usr/bin/env bash
# Makes Debian packages of programs that are built already: deb.sh [FOLDER [PROGRAMS [ARCHITECTURE]]], by default in dist/local,
# of target/release, and for this machine. scripts/debian says what is in which package; a package without its program is not made.
# The same programs give the same bytes.
set -euo pipefail
folder=$(realpath -m "${1:-$(dirname "$0")/../dist/local}")
programs=$(realpath -m "${2:-${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/release}")
machine=$(dpkg --print-architecture)
architecture=${3:-$machine}
cd "$(dirname "$0")/.."
for tool in dh dpkg-buildpackage readelf; do
    command -v "$tool" >/dev/null || { echo "deb: $tool is missing; scripts/deps.sh deb installs it" >&2; exit 1; }
done
[ -x "$programs/anemiad" ] || { echo "deb: there is no $programs/anemiad; make build makes it" >&2; exit 1; }
onnxruntime=.deps/onnxruntime
[ "$architecture" = "$machine" ] || onnxruntime+=-$architecture
[ -f "$onnxruntime/libonnxruntime.so" ] || { echo "deb: ONNX Runtime is missing; make deps fetches it" >&2; exit 1; }

version=$(scripts/version.sh)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/anemiad-$version
mkdir -p "$tree"/{programs,scripts} "$folder"
cp -r models systemd "$tree"
mkdir -p "$tree/daemon" "$tree/crates/tensorrt"
cp daemon/anemiad.yaml "$tree/daemon"
mkdir "$tree/crates/tensorrt/shim"
cp crates/tensorrt/shim/{Makefile,anemia_tensorrt.cpp,anemia_tensorrt.h} "$tree/crates/tensorrt/shim"
cp scripts/{anemia-train,anemia-train-setup,anemiad-tensorrt-build,fetch-libtorch.sh,requirements-libtorch.txt} "$tree/scripts"
cp "$onnxruntime"/{libonnxruntime.so,LICENSE,ThirdPartyNotices.txt} "$tree/programs"
cp -r scripts/debian "$tree"
printf 'programs/LICENSE\nprograms/ThirdPartyNotices.txt\n' >"$tree/debian/anemiad-onnxruntime.docs"
# Under the names by which debhelper knows them.
for package in anemiad anemiad-kiosk; do cp "systemd/$package.sysusers.conf" "$tree/debian/$package.sysusers"; done
cp systemd/anemiad-kiosk.pam "$tree/debian/anemiad-kiosk.pam"
mkdir "$tree/systemd/anemiad.service.d"
cp systemd/anemiad-jetson.conf "$tree/systemd/anemiad.service.d/jetson.conf"
# It may be installed before anemiad, and must not make another user of it.
{ cat systemd/anemiad.sysusers.conf && printf 'g render - -\nm anemiad render\n'; } >"$tree/debian/anemiad-tensorrt.sysusers"
cat >"$tree/debian/changelog" <<END
anemiad ($version) stable; urgency=medium

  * See CHANGELOG.md.

 -- The developers of anemiad <anemiad@localhost>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END

if [ -f "$folder/THIRD-PARTY-LICENCES.txt" ]; then
    cp "$folder/THIRD-PARTY-LICENCES.txt" "$tree"
    for program in anemiad anemia-calibrate anemia-train; do
        echo THIRD-PARTY-LICENCES.txt >"$tree/debian/$program.docs"
    done
fi

# The packages of Debian and Ubuntu with the libraries that a program for a board is linked to, from that of JetPack 4.6 on.
board_libraries() {
    local library
    readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | while read -r library; do
        case $library in
        libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libutil.so.* | ld-linux-*) echo "libc6 (>= 2.27)" ;;
        libgcc_s.so.1) echo "libgcc-s1 | libgcc1" ;;
        libglib-2.0.so.0 | libgobject-2.0.so.0 | libgio-2.0.so.0) echo "libglib2.0-0 (>= 2.56)" ;;
        libgstreamer-1.0.so.0 | libgstbase-1.0.so.0) echo "libgstreamer1.0-0 (>= 1.14)" ;;
        libgstapp-1.0.so.0 | libgstvideo-1.0.so.0) echo "libgstreamer-plugins-base1.0-0 (>= 1.14)" ;;
        *) echo "deb: of which package is $library, to which $1 is linked?" >&2 && return 1 ;;
        esac
    done | sort -u | paste -sd, | sed 's/,/, /g'
}
libraries() {
    if [ "$architecture" = "$machine" ]; then
        (cd "$tree" && dpkg-shlibdeps -O --ignore-missing-info -e"$1" 2>>"$work/log") | sed -n 's/^shlibs:Depends=//p'
    else
        board_libraries "$1"
    fi
}
skipped=()
without_trainer=${ANEMIA_TRAIN_RPATH:+ is wanted}
for program in anemiad anemia-calibrate anemia-train; do
    # A trainer that finds its libtorch only in this source folder is none for a package.
    if [ -x "$programs/$program" ] && [ "$program$without_trainer" != anemia-train ]; then
        cp "$programs/$program" "$tree/programs"
        found=$(libraries "$tree/programs/$program") && [ -n "$found" ] ||
            { cat "$work/log" || true; echo "deb: what is $program linked to?"; exit 1; } >&2

        sed -i "s/\${$program:Libraries}/$found/" "$tree/debian/control"
    else
        skipped+=("-N$program")
    fi
done

# Packages for every architecture are made once, with those of a PC.
what=--build=binary
[ "$architecture" = "$machine" ] || what=--build=any
(cd "$tree" && DH_OPTIONS="${skipped[*]}" DEB_BUILD_OPTIONS="nocheck${DEB_BUILD_OPTIONS:+ $DEB_BUILD_OPTIONS}" \
    dpkg-buildpackage "$what" --no-pre-clean --host-arch="$architecture" --no-check-builddeps --no-sign) >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
for file in "$work"/*.deb; do
    mv "$file" "$folder"
    echo "$folder/${file##*/}"
done
