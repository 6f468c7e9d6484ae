SUMMARY = "Keeps an update of the whole system only when the kiosk works with it"
DESCRIPTION = "Mender writes an update into the root file system that is not in use and starts it. Here is what decides \
then: the update stays when the daemon is up and stays up, and is taken back otherwise."
SECTION = "applications"

inherit anemia_project mender-state-scripts systemd

SRC_URI += "\
    file://anemia-healthy \
    file://anemia-update \
    file://anemia-update.service \
    file://commit \
"

SYSTEMD_SERVICE:${PN} = "anemia-update.service"

# It goes into the update itself, and is run by Mender in the system that was just started.
do_compile() {
    install -Dm0755 ${WORKDIR}/commit ${MENDER_STATE_SCRIPTS_DIR}/ArtifactCommit_Enter_60_anemiad
    sed -i 's,@LIBEXECDIR@,${libexecdir},' ${MENDER_STATE_SCRIPTS_DIR}/ArtifactCommit_Enter_60_anemiad
}

do_install() {
    install -Dm0755 ${WORKDIR}/anemia-healthy ${D}${libexecdir}/anemia/anemia-healthy
    install -Dm0755 ${WORKDIR}/anemia-update ${D}${libexecdir}/anemia/anemia-update
    install -Dm0644 ${WORKDIR}/anemia-update.service ${D}${systemd_system_unitdir}/anemia-update.service
    sed -i 's,@LIBEXECDIR@,${libexecdir},' ${D}${systemd_system_unitdir}/anemia-update.service \
        ${D}${libexecdir}/anemia/anemia-update
}

FILES:${PN} += "${libexecdir}/anemia"
RDEPENDS:${PN} += "anemia-data"
