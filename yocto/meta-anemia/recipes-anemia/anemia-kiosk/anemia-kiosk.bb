SUMMARY = "The page of anemiad on the screen of the kiosk, and nothing else there"
DESCRIPTION = "Weston with its kiosk shell, and the browser cog (WPE WebKit). The unit of the project starts cage, for \
which no layer here has a recipe; meta-tegra supports Weston."
SECTION = "applications"

inherit anemia_project features_check systemd useradd

SRC_URI += "\
    file://anemiad-kiosk.service \
    file://logind.conf \
    file://systemd/anemiad-kiosk-browser;subdir=project \
    file://systemd/anemiad-kiosk.sysusers.conf;subdir=project \
    file://systemd/xkb/symbols/kiosk;subdir=project \
    file://weston.conf \
    file://weston.ini \
"

REQUIRED_DISTRO_FEATURES = "opengl pam systemd wayland"

# The number is fixed, as that of anemiad. weston-init makes the group of those who may use the screen, too.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system --gid 802 anemiad-kiosk; --system render; --system wayland"
USERADD_PARAM:${PN} = "--system --uid 802 --gid anemiad-kiosk --groups video,render,wayland --home-dir /run/anemiad-kiosk \
    --no-create-home --shell ${base_sbindir}/nologin anemiad-kiosk"

SYSTEMD_SERVICE:${PN} = "anemiad-kiosk.service"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -Dm0755 ${S}/systemd/anemiad-kiosk-browser ${D}${nonarch_libdir}/anemiad/anemiad-kiosk-browser
    install -Dm0644 ${S}/systemd/anemiad-kiosk.sysusers.conf ${D}${nonarch_libdir}/sysusers.d/anemiad-kiosk.conf
    install -Dm0644 ${S}/systemd/xkb/symbols/kiosk ${D}${datadir}/anemiad/xkb/symbols/kiosk
    install -Dm0644 ${WORKDIR}/weston.ini ${D}${datadir}/anemiad/weston.ini
    install -Dm0644 ${WORKDIR}/anemiad-kiosk.service ${D}${systemd_system_unitdir}/anemiad-kiosk.service
    install -Dm0644 ${WORKDIR}/weston.conf ${D}${systemd_system_unitdir}/weston.service.d/anemia-kiosk.conf
    install -Dm0644 ${WORKDIR}/logind.conf ${D}${nonarch_libdir}/systemd/logind.conf.d/anemia-kiosk.conf
}

FILES:${PN} += "\
    ${datadir}/anemiad \
    ${nonarch_libdir}/anemiad \
    ${nonarch_libdir}/systemd/logind.conf.d \
    ${nonarch_libdir}/sysusers.d \
    ${systemd_system_unitdir} \
"
RDEPENDS:${PN} += "cog liberation-fonts weston weston-init xkeyboard-config"
