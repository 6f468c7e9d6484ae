# For INHERIT in a distro: gives the partition UDA, which keeps the data of the kiosk, ANEMIA_DATA_BYTES in NVIDIA's
# partition layouts. Where a layout lets it take the rest of the device (attribute 0x808), its size is not changed.
# Which recipe holds the layouts differs between the branches of meta-tegra.

ANEMIA_DATA_BYTES ?= ""
# What NVIDIA's layouts of the Xavier NX pin near the end of the eMMC stands between the root file systems and UDA: with a
# smaller root there would be a hole, and UDA has 100 MiB. Without the pins all partitions follow each other.
ANEMIA_UNPIN ?= "${@'yes' if 'tegra194' in d.getVar('MACHINEOVERRIDES').split(':') else 'no'}"

anemia_data_partition() {
    seen=no
    for layout in ${D}${datadir}/tegraflash/*flash*.xml; do
        if [ ! -f "$layout" ] || [ -L "$layout" ]; then
            continue
        fi
        # Layouts of the boot flash alone have neither.
        if ! grep -q '<partition name="APP"' "$layout"; then
            continue
        fi
        if ! grep -q '<partition name="UDA"' "$layout"; then
            bbfatal "$layout has no partition UDA for the data of the kiosk"
        fi
        if [ "${ANEMIA_UNPIN}" = yes ]; then
            sed -i '/<device type="\(sdmmc_user\|sdcard\)"/,/<\/device>/ { /<start_location>/d }' "$layout"
        fi
        if sed -n '/<partition name="UDA"/,/<\/partition>/p' "$layout" | grep -q 0x808; then
            continue
        fi
        sed -i '/<partition name="UDA"/,/<\/partition>/ s,<size>[^<]*</size>,<size> ${ANEMIA_DATA_BYTES} </size>,' \
            "$layout"
    done
}

python () {
    if d.getVar('PN') in ('tegra-bootfiles', 'tegra-storage-layout') and d.getVar('ANEMIA_DATA_BYTES'):
        d.appendVarFlag('do_install', 'postfuncs', ' anemia_data_partition')
        d.appendVarFlag('do_install', 'vardeps', ' ANEMIA_DATA_BYTES ANEMIA_UNPIN anemia_data_partition')
}
