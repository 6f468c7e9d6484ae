#!/usr/bin/env bash
# Turns the emulated kiosk on: boot.sh FOLDER DISK SSH_PORT MQTT_PORT CONSOLE_LOG. It becomes qemu, in the foreground.
# Killing it cuts the power; starting it again with the same DISK gives the power back. ACCEL=tcg emulates the processor
# even where KVM works. SCREEN=SOCKET gives it a screen, a keyboard and a pointer, which qemu's own protocol at that socket uses.
set -euo pipefail
[ $# -eq 5 ] || { echo "usage: boot.sh FOLDER DISK SSH_PORT MQTT_PORT CONSOLE_LOG" >&2; exit 2; }
folder=$(realpath "$1") disk=$2 ssh_port=$3 mqtt_port=$4 console=$5

# What this kiosk writes goes to DISK; what it was built with stays as it is and can be shared. A copy of its few hundred
# megabytes: qemu-img would make a smaller one, but Debian's packages of it and of qemu itself can keep each other out.
if [ ! -e "$disk" ]; then
    cp --sparse=always "$folder/root.ext4" "$disk.partial"
    mv "$disk.partial" "$disk"
fi

# /dev/kvm is not enough: there are machines that have it and cannot run an ordinary kernel with it.
accel=(-accel "tcg,thread=multi,tb-size=512" -cpu max)
machine=(qemu-system-x86_64 -M q35) serial=ttyS0
if [ "$(cat "$folder/architecture")" = arm64 ]; then
    # The processor of a TX2 NX has these cores, too.
    machine=(qemu-system-aarch64 -M virt -cpu cortex-a57) serial=ttyAMA0 ACCEL=tcg
    accel=("${accel[@]:0:2}")
fi
if [ "${ACCEL:-}" != tcg ] && [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
    accel=(-accel kvm "${accel[@]}")
fi
echo "boot: ${accel[1]%%,*}" >&2

memory=1024
screen=()
if [ -n "${SCREEN:-}" ]; then
    memory=2560
    screen=(-device virtio-gpu-pci,xres=1280,yres=800 -device virtio-tablet-pci -device virtio-keyboard-pci
        -qmp "unix:$SCREEN,server=on,wait=off")
fi

# cache=writeback: the guest sees a disk with a cache of its own, and qemu writes that out when the guest asks for it
# (fsync). So what was synced survives the power cut, and what was not may be lost, as on a real disk.
# restrict=on: the two ports are all that leads in or out.
exec "${machine[@]}" "${accel[@]}" -smp 2 -m "$memory" "${screen[@]}" -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$folder/vmlinuz" -initrd "$folder/initrd" \
    -append "console=$serial loglevel=4 mitigations=off nokaslr random.trust_cpu=on tsc=reliable systemd.show_status=0" \
    -drive "file=$disk,if=virtio,format=raw,cache=writeback,discard=unmap" \
    -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$ssh_port-:22,hostfwd=tcp:127.0.0.1:$mqtt_port-:1883" \
    -device virtio-net-pci,netdev=net,romfile= -device virtio-rng-pci \
    -chardev "file,id=console,path=$console,append=on" -serial chardev:console </dev/null
