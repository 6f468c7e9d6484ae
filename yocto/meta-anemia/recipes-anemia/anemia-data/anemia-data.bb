SUMMARY = "What anemiad keeps, on the data partition"
DESCRIPTION = "For a root file system that is read-only: folders on /data are mounted where the daemon has its \
configuration, its state and its cache. The configuration of the image is copied there once."
SECTION = "applications"

inherit anemia_project systemd

SRC_URI += "\
    file://anemia-data \
    file://anemia-data.service \
    file://etc-anemiad.mount \
    file://need-data.conf \
    file://var-cache-anemiad.mount \
    file://var-lib-anemiad.mount \
"

SYSTEMD_SERVICE:${PN} = "anemia-data.service etc-anemiad.mount var-cache-anemiad.mount var-lib-anemiad.mount"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -Dm0755 ${WORKDIR}/anemia-data ${D}${libexecdir}/anemia/anemia-data
    for unit in ${SYSTEMD_SERVICE:${PN}}; do
        install -Dm0644 ${WORKDIR}/$unit ${D}${systemd_system_unitdir}/$unit
    done
    sed -i 's,@LIBEXECDIR@,${libexecdir},' ${D}${systemd_system_unitdir}/anemia-data.service
    install -Dm0644 ${WORKDIR}/need-data.conf ${D}${systemd_system_unitdir}/anemiad.service.d/need-data.conf
}

FILES:${PN} += "${libexecdir}/anemia ${systemd_system_unitdir}"
RDEPENDS:${PN} += "e2fsprogs-e2fsck e2fsprogs-mke2fs"
