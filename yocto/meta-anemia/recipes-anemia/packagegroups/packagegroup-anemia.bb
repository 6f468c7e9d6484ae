SUMMARY = "What a kiosk consists of"
SUMMARY:${PN} = "The daemon of the kiosk"
SUMMARY:${PN}-kiosk = "The screen of the kiosk"
DESCRIPTION = "Two groups: the daemon with its models and, on a Jetson, TensorRT and the CSI camera; and the screen."

# On a Jetson it names packages that other machines have not.
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

# anemiad, or anemiad-source where it is built from source.
ANEMIAD_PACKAGE ?= "anemiad"

PACKAGES = "${PN} ${PN}-kiosk"

RDEPENDS:${PN} = "\
    ${ANEMIAD_PACKAGE} \
    anemia-data \
    anemia-models \
    ca-certificates \
    gstreamer1.0-plugins-base-meta \
    tzdata \
"
# The override tegra is one of meta-tegra.
# nooelint: oelint.vars.specific
RDEPENDS:${PN}:append:tegra = " \
    ${ANEMIAD_PACKAGE}-jetson \
    ${ANEMIAD_PACKAGE}-recovery \
    anemia-tensorrt \
    gstreamer1.0-plugins-nvarguscamerasrc \
    gstreamer1.0-plugins-nvvidconv \
    tegra-argus-daemon \
"

RDEPENDS:${PN}-kiosk = "\
    ${PN} \
    anemia-kiosk \
"

# USB cameras, where the kernel has their driver as a module. The sensors of CSI cameras are modules from L4T r35 on, and
# which one a board has is told by its device tree: all of them.
RRECOMMENDS:${PN} = "kernel-module-uvcvideo"
# The override tegra is one of meta-tegra.
# nooelint: oelint.vars.specific
RRECOMMENDS:${PN}:append:tegra = " kernel-modules"
