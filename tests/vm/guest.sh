#!/usr/bin/env bash
# The disk, the kernel and the initramfs of the emulated kiosk: guest.sh [--screen|--arm] [FOLDER], or guest.sh [--screen|--arm]
# --digest for the name under which the folder can be kept in a cache. With --screen it has what the page on a screen needs; with
# --arm its processor and its system are nearest to those of a board. Nothing in it depends on the program under test. Does
# nothing when FOLDER is complete.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH=$PATH:/usr/sbin:/sbin

kind=
case ${1:-} in --screen | --arm)
    kind=$1
    shift
    ;;
esac
architecture=amd64 suite=bookworm serial=ttyS0
if [ "$kind" = --arm ]; then
    # glibc 2.31 and Linux 5.10, as JetPack 5.1 has them.
    architecture=arm64 suite=bullseye serial=ttyAMA0
fi
packages=(
    systemd systemd-sysv udev dbus kmod iproute2 sudo ca-certificates openssh-server
    v4l-utils mosquitto mosquitto-clients
    # The libraries that the package of anemiad asks for: the guest has no way to a mirror.
    libgstreamer1.0-0 libgstreamer-plugins-base1.0-0 gstreamer1.0-plugins-base
)
if [ -z "$kind" ]; then
    # The same for the packages of a workstation.
    packages+=(gcc libc6-dev python3 python3-pip)
fi
boot_modules=(virtio_pci virtio_blk virtio_net ext4)
guest_modules=(vivid sch_netem virtio_rng autofs4)
# What takes time at boot and is of no use here.
masked=(
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    systemd-tmpfiles-clean.timer systemd-timesyncd.service systemd-logind.service systemd-user-sessions.service
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-pstore.service
    systemd-networkd-wait-online.service
    getty@tty1.service getty-static.service serial-getty@$serial.service dev-hugepages.mount dev-mqueue.mount
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount systemd-binfmt.service
)

if [ "$kind" = --screen ]; then
    guest_modules+=(virtio_gpu virtio_input evdev)
    # Who has the console in front may use screen and keyboard: that is what the page needs.
    for unit in systemd-logind.service systemd-user-sessions.service getty@tty1.service; do
        masked=("${masked[@]/#$unit/}")
    done
fi

# Everything that decides what is in the folder, but for the versions of the packages: throw a cache away now and then.
digest=$(echo "$kind" | cat - "${BASH_SOURCE[0]}" "$here"/eye.service "$here"/eye-show.sh "$here"/eye.rules | sha256sum | cut -c1-16)
[ "${1:-}" != --digest ] || { echo "$digest"; exit; }
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/anemiad-vm/guest-$digest}
if [ "$(cat "$folder/complete" 2>/dev/null)" = "$digest" ]; then
    echo "guest: $folder is complete"
    exit
fi
if [ "$(id -u)" -ne 0 ]; then
    # debootstrap needs root. What it makes belongs to the caller at the end.
    exec sudo "$here/guest.sh" $kind "$(realpath -m "$folder")"
fi
for tool in debootstrap apt-get busybox cpio zstd mke2fs depmod ssh-keygen; do
    command -v "$tool" >/dev/null || { echo "guest: $tool is missing; scripts/deps.sh vm installs it" >&2; exit 1; }
done

say() { printf 'guest: %3d s  %s\n' "$SECONDS" "$*"; }
retry() {
    local pause
    for pause in 5 15 30 0; do
        if "$@"; then return; fi
        [ "$pause" -eq 0 ] || { echo "guest: trying again in $pause s: $*" >&2; sleep "$pause"; }
    done
    return 1
}

# Beside its later place, so that publishing is one rename; not in /tmp, which may forbid programs and devices.
mkdir -p "$(dirname "$folder")"
folder=$(realpath -m "$folder")
work=$(mktemp -d "$folder.partial.XXXXXX")
clean() {
    # An interrupted debootstrap leaves /proc and /sys mounted.
    awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
    rm -rf --one-file-system "$work"
}
trap clean EXIT
root=$work/root
out=$work/out
mkdir "$out"

# ---- The kernel: the full flavour; the one for clouds has no media drivers.

# An archive of its own: other users of apt may empty the common one in the middle of a download.
mkdir -p "$work/apt/partial"
options=(-o Dir::Cache::archives="$work/apt" -o DPkg::Lock::Timeout=300 -o APT::Sandbox::User=root)
if [ "$kind" = --arm ]; then
    # This machine knows no packages of that system; debootstrap takes them from there, too.
    mkdir -p "$work/lists/partial"
    echo "deb http://deb.debian.org/debian $suite main" >"$work/sources.list"
    options+=(-o Dir::State::lists="$work/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o APT::Architecture="$architecture"
        -o APT::Architectures="$architecture")
fi
apt=(apt-get -q "${options[@]}")
find_kernel() {
    # Without lists there is no such package, and apt-cache fails.
    { apt-cache "${options[@]}" depends "linux-image-$architecture" 2>/dev/null || true; } |
        awk '$1 == "Depends:" && !found { print $2; found = 1 }'
}
kernel_package=$(find_kernel)
[ -n "$kernel_package" ] || { retry "${apt[@]}" update >/dev/null; kernel_package=$(find_kernel); }
say "kernel: $kernel_package"
download_kernel() { (cd "$work" && "${apt[@]}" download "$kernel_package" >/dev/null); }
# The lists may be older than the mirror: then the file that they name is gone.
download_kernel || { retry "${apt[@]}" update >/dev/null; kernel_package=$(find_kernel); retry download_kernel; }
dpkg-deb -x "$work/$kernel_package"_*.deb "$work/kernel"
version=$(basename "$work"/kernel/lib/modules/*)
depmod -b "$work/kernel" "$version"
cp "$work/kernel/boot/vmlinuz-$version" "$out/vmlinuz"
module_files() {
    local module
    for module in "$@"; do
        modprobe -d "$work/kernel" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++'
}

# ---- The root file system.

say "debootstrap"
include=$(IFS=,; echo "${packages[*]}")
mkdir "$work/packages"
if [ "$kind" = --arm ]; then
    # Programs for ARM run here, too, also behind chroot: F opens the interpreter now.
    binfmt=/proc/sys/fs/binfmt_misc
    [ -e "$binfmt/register" ] || mount -t binfmt_misc none "$binfmt"
    [ -e "$binfmt/qemu-aarch64" ] ||
        printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F' \
            >"$binfmt/register"
fi
bootstrap() {
    rm -rf --one-file-system "$root"
    debootstrap --arch="$architecture" --variant=minbase --cache-dir="$work/packages" --include="$include" "$suite" "$root" \
        >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; return 1; }
}
retry bootstrap
put() { install -D -m "${2:-644}" /dev/stdin "$root/$1"; }

if [ "$kind" = --screen ]; then
    say "browser"
    # The browser comes with the security updates, of which debootstrap knows nothing: by the sources of this machine.
    for file in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/trusted.gpg.d /usr/share/keyrings \
        /etc/resolv.conf; do
        # Never through a link, which would lead to this machine's own files.
        [ ! -e "$file" ] || cp -rL --remove-destination "$file" "$root/${file%/*}/"
    done
    printf '#!/bin/sh\nexit 101\n' | put usr/sbin/policy-rc.d 755
    mount -t proc proc "$root/proc"
    install_browser() {
        chroot "$root" sh -c 'apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
            cage chromium dbus-user-session fonts-dejavu-core libpam-systemd polkitd procps xwayland' >"$work/log" 2>&1 ||
            { tail -n 20 "$work/log" >&2; return 1; }
    }
    retry install_browser
    umount "$root/proc"
    # How this machine reaches its sources stays here.
    rm -r "$root"/usr/sbin/policy-rc.d "$root"/etc/apt/{apt.conf.d,sources.list*} "$root/etc/resolv.conf"
fi

module_files "${guest_modules[@]}" | while read -r file; do
    install -D -m 644 "$file" "$root/${file#"$work/kernel/"}"
done
cp "$work/kernel/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
depmod -b "$root" "$version"

put etc/hostname <<<kiosk
put etc/hosts <<<'127.0.0.1 localhost kiosk'
put etc/fstab <<<'/dev/vda / ext4 rw,noatime 0 1'
put etc/systemd/network/kiosk.network <<'END'
[Match]
Type=ether
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
END
# The journal is in memory, and goes out on the serial line, too: what was logged before a power cut stays readable
# outside, and the disk is written by what is tested and nothing else.
put etc/systemd/journald.conf.d/kiosk.conf <<END
[Journal]
Storage=volatile
ForwardToConsole=yes
TTYPath=/dev/$serial
MaxLevelConsole=info
RateLimitBurst=0
END
# Reachable through the ports that qemu forwards, and from nowhere else.
put etc/mosquitto/conf.d/kiosk.conf <<'END'
listener 1883 0.0.0.0
allow_anonymous true
END
sed -i 's/^persistence .*/persistence false/' "$root/etc/mosquitto/mosquitto.conf"
put etc/ssh/sshd_config.d/kiosk.conf <<'END'
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
HostKey /etc/ssh/ssh_host_ed25519_key
END

# A camera that shows what is played into its twin: an HDMI output in a loop to an HDMI input.
put etc/modules-load.d/vivid.conf <<<vivid
put etc/modprobe.d/vivid.conf <<'END'
options vivid n_devs=1 node_types=0x101 num_inputs=1 input_types=0x3 num_outputs=1 output_types=0x1
END
install -D -m 644 "$here/eye.rules" "$root/etc/udev/rules.d/80-eye.rules"
install -D -m 644 "$here/eye.service" "$root/etc/systemd/system/eye.service"
install -D -m 755 "$here/eye-show.sh" "$root/usr/local/bin/eye-show"

for unit in "${masked[@]}"; do [ -z "$unit" ] || ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
# The alias of a masked unit is an error in the log.
[ "$kind" = --screen ] || rm -f "$root/etc/systemd/system/dbus-org.freedesktop.login1.service"
systemctl --root="$root" --quiet enable systemd-networkd.service ssh.service mosquitto.service
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

ssh-keygen -q -t ed25519 -N '' -C kiosk -f "$out/key"
install -d -m 700 "$root/root/.ssh"
put root/.ssh/authorized_keys 600 <"$out/key.pub"
# By this name ssh checks that the guest is the guest, whatever its port: ssh -o HostKeyAlias=kiosk
echo "kiosk $(cut -d' ' -f1,2 "$root/etc/ssh/ssh_host_ed25519_key.pub")" >"$out/known_hosts"

dpkg-query --admindir="$root/var/lib/dpkg" -W >"$out/packages"
echo "$version" >"$out/kernel"
echo "$architecture" >"$out/architecture"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{man,locale,info}/*
find "$root/usr/share/doc" -type f ! -name copyright -delete

# With a journal: the power is cut while the disk is written, and the next start must find a whole file system.
size=2G
[ "$kind" != --screen ] || size=4G
truncate -s "$size" "$out/root.ext4"
mke2fs -q -t ext4 -J size=16 -m 0 -L kiosk -d "$root" "$out/root.ext4"

# ---- The initramfs: loads the drivers of disk and network, and hands over to systemd.

ram=$work/ram
mkdir -p "$ram"/{bin,dev,proc,sys,root,modules}
if [ "$kind" = --arm ]; then
    (cd "$work" && retry "${apt[@]}" download busybox-static >/dev/null)
    dpkg-deb -x "$work"/busybox-static_*.deb "$work/busybox"
    cp "$work/busybox/bin/busybox" "$ram/bin/busybox"
else
    cp "$(command -v busybox)" "$ram/bin/busybox"
    if ldd "$ram/bin/busybox" >/dev/null 2>&1; then echo "guest: busybox-static is missing" >&2; exit 1; fi
fi
number=100
module_files "${boot_modules[@]}" | while read -r file; do cp "$file" "$ram/modules/$((number++))-${file##*/}"; done
install -m 755 /dev/stdin "$ram/init" <<'END'
#!/bin/busybox sh
busybox=/bin/busybox
$busybox mount -t devtmpfs none /dev
$busybox mount -t proc none /proc
for module in /modules/*; do $busybox insmod "$module"; done
tries=0
until [ -b /dev/vda ]; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "kiosk: no disk"; $busybox poweroff -f; }
    $busybox usleep 100000
done
$busybox mount -t ext4 -o rw,noatime /dev/vda /root || { echo "kiosk: the disk is unusable"; $busybox poweroff -f; }
$busybox umount /proc
$busybox mount --move /dev /root/dev
exec $busybox switch_root /root /lib/systemd/systemd
END
(cd "$ram" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | zstd -q >"$out/initrd"

# ---- Publish: what is there is whole.

chmod 600 "$out/key"
chmod 644 "$out/vmlinuz"
echo "$digest" >"$out/complete"
[ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$out"
if ! mv -T "$out" "$folder" 2>/dev/null; then
    # An older guest, or what another build has just published.
    rm -rf "$folder"
    mv -T "$out" "$folder"
fi
say "ready: $folder ($(du -sh "$folder" | cut -f1), Linux $version)"
