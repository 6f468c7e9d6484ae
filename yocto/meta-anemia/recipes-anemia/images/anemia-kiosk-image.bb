SUMMARY = "A kiosk: the daemon, its page on the screen, and nothing else"
DESCRIPTION = "The root file system is read-only. Configuration, results and plans are on the data partition. Nobody can \
log in, unless the build adds a way."
LICENSE = "Apache-2.0"

inherit core-image features_check

REQUIRED_DISTRO_FEATURES = "opengl pam systemd wayland"

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_INSTALL = "\
    packagegroup-core-boot \
    packagegroup-base \
    packagegroup-anemia-kiosk \
    ${CORE_IMAGE_EXTRA_INSTALL} \
"
IMAGE_LINGUAS = ""
# weston starts with it.
SYSTEMD_DEFAULT_TARGET = "graphical.target"

# The partition of the data, as the layouts of NVIDIA name it. Empty where something else mounts /data, as Mender does.
ANEMIA_DATA_PARTLABEL ?= "UDA"

# systemd makes a file system on it if there is none, checks it, and lets it grow as far as the partition does.
anemia_mount_data() {
    install -d -m 0755 ${IMAGE_ROOTFS}/data
    if [ -n "${ANEMIA_DATA_PARTLABEL}" ]; then
        echo "PARTLABEL=${ANEMIA_DATA_PARTLABEL} /data ext4 noatime,nodev,nosuid,nofail,x-systemd.makefs,x-systemd.growfs 0 2" \
            >>${IMAGE_ROOTFS}${sysconfdir}/fstab
    fi
}
ROOTFS_POSTPROCESS_COMMAND += "anemia_mount_data; "
