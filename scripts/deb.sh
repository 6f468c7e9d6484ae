#!/usr/bin/env bash
# Makes two packages from a program that is built already: deb.sh [FOLDER] [PROGRAM], by default dist/ and
# target/release/anemiad. anemiad_VERSION_ARCH.deb has the program, ONNX Runtime, the models that ship, the units and a first
# configuration; anemiad-kiosk_VERSION_all.deb has the full-screen browser for a machine with a screen.
set -euo pipefail
folder=$(realpath -m "${1:-$(dirname "$0")/../dist}")
program=$(realpath -m "${2:-${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/release/anemiad}")
cd "$(dirname "$0")/.."
[ -x "$program" ] || { echo "deb: there is no $program; make build makes it" >&2; exit 1; }
[ -f .deps/onnxruntime/libonnxruntime.so ] || { echo "deb: ONNX Runtime is missing; make deps fetches it" >&2; exit 1; }

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
put() { install -D -m 644 "$1" "$root/$2"; }

install -D -m 755 "$program" "$root/usr/bin/anemiad"
put .deps/onnxruntime/libonnxruntime.so usr/lib/anemiad/libonnxruntime.so
for model in pallor locator; do
    find "models/$model" -type f | while read -r file; do put "$file" "usr/share/anemiad/$file"; done
done
for unit in anemiad.service anemiad-camera-service.{path,service} anemiad-reboot.{path,service}; do
    put "systemd/$unit" "usr/lib/systemd/system/$unit"
done
put systemd/anemiad.sysusers.conf usr/lib/sysusers.d/anemiad.conf
put systemd/70-anemiad-camera.rules usr/lib/udev/rules.d/70-anemiad-camera.rules
put systemd/anemiad-jetson.conf usr/share/doc/anemiad/examples/anemiad-jetson.conf
put daemon/anemiad.yaml etc/anemiad/anemiad.yaml
put daemon/anemiad.yaml usr/share/doc/anemiad/examples/anemiad.yaml
put scripts/deb/copyright usr/share/doc/anemiad/copyright

# What the program is linked to; the plugins of GStreamer are found by it at run time, so nothing here tells of them.
mkdir "$work/debian"
printf 'Source: anemiad\n\nPackage: anemiad\nArchitecture: any\n' >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info -e root/usr/bin/anemiad \
    -e root/usr/lib/anemiad/libonnxruntime.so 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$libraries" ] || { echo "deb: dpkg-shlibdeps does not know the libraries" >&2; exit 1; }
case $libraries in *libgstreamer*) libraries+=", gstreamer1.0-plugins-base" ;; esac

install -d "$root/DEBIAN"
install -m 755 scripts/deb/postinst scripts/deb/prerm scripts/deb/postrm "$root/DEBIAN"
echo /etc/anemiad/anemiad.yaml >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<END
Package: anemiad
Version: $version
Architecture: $arch
Maintainer: The developers of anemiad <anemiad@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: $libraries, systemd
Recommends: ca-certificates
Suggests: mosquitto
Section: science
Priority: optional
Description: anemia screening from the colour of the inner eyelid
 A daemon for a small computer with a camera. It finds the palpebral
 conjunctiva in the picture, lets a neural network judge its pallor, and
 sends the result over MQTT. A screening aid, not a diagnosis.
END

# The browser is a package of its own: a machine without a screen needs none.
kiosk=$work/kiosk
install -D -m 755 systemd/anemiad-kiosk-browser "$kiosk/usr/lib/anemiad/anemiad-kiosk-browser"
install -D -m 644 systemd/anemiad-kiosk.service "$kiosk/usr/lib/systemd/system/anemiad-kiosk.service"
install -D -m 644 systemd/anemiad-kiosk.sysusers.conf "$kiosk/usr/lib/sysusers.d/anemiad-kiosk.conf"
install -D -m 644 systemd/anemiad-kiosk.pam "$kiosk/etc/pam.d/anemiad-kiosk"
install -D -m 644 systemd/xkb/symbols/kiosk "$kiosk/usr/share/anemiad/xkb/symbols/kiosk"
install -D -m 644 systemd/kiosk-policies/anemiad.json "$kiosk/usr/share/anemiad/kiosk-policies/anemiad.json"
install -D -m 644 scripts/deb/copyright "$kiosk/usr/share/doc/anemiad-kiosk/copyright"
install -d "$kiosk/DEBIAN"
for script in postinst prerm postrm; do
    # The same for another unit. It keeps nothing, so purging removes nothing more.
    sed -e 's/anemiad\.\(service\|conf\)/anemiad-kiosk.\1/g' -e '/# Results, records/d' -e '/rm -rf/d' "scripts/deb/$script" \
        >"$kiosk/DEBIAN/$script"
    chmod 755 "$kiosk/DEBIAN/$script"
done
echo /etc/pam.d/anemiad-kiosk >"$kiosk/DEBIAN/conffiles"
cat >"$kiosk/DEBIAN/control" <<END
Package: anemiad-kiosk
Version: $version
Architecture: all
Maintainer: The developers of anemiad <anemiad@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$kiosk" | cut -f1)
Depends: anemiad, cage, chromium | chromium-browser | cog, libpam-systemd, polkitd | policykit-1, systemd
Recommends: fonts-noto-core
Section: science
Priority: optional
Description: anemia screening: the page of the kiosk on its screen
 A full-screen browser that shows the page of anemiad and nothing else,
 started with the machine.
END

mkdir -p "$folder"
dpkg-deb --root-owner-group -Zzstd -z9 --build "$root" "$folder" >/dev/null
dpkg-deb --root-owner-group -Zzstd -z9 --build "$kiosk" "$folder" >/dev/null
echo "$folder/anemiad_${version}_$arch.deb"
