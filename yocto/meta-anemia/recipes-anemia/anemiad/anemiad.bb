SUMMARY = "Screening for anemia from the colour of the inner eyelid, as released"
SUMMARY:${PN}-onnxruntime = "ONNX Runtime as anemiad was tested with it"
DESCRIPTION = "The daemon of the kiosk, from the program that a release of the project contains. It was built for \
glibc 2.27, so the same file runs on all supported systems."
SECTION = "applications"
LICENSE = "Apache-2.0 & MIT"
LICENSE:${PN} = "Apache-2.0"
LICENSE:${PN}-jetson = "Apache-2.0"
LICENSE:${PN}-onnxruntime = "MIT"
LICENSE:${PN}-recovery = "Apache-2.0"

# They bring the libraries that the program is linked to, so that packaging knows which packages it needs.
DEPENDS += "gstreamer1.0 gstreamer1.0-plugins-base"

require anemiad.inc

# The archive that `make dist` leaves in the folder dist of the project. Where it is elsewhere, ANEMIAD_RELEASE_URI is its
# address.
ANEMIAD_RELEASE ?= "anemiad-${PV}-aarch64"
ANEMIAD_RELEASE_URI ?= "file://dist/${ANEMIAD_RELEASE}.tar.gz"
# Whoever makes an image says which archive is meant: `sha256sum` prints it.
ANEMIAD_RELEASE_SHA256 ?= ""

SRC_URI += "${ANEMIAD_RELEASE_URI};name=release;subdir=release"
SRC_URI[release.sha256sum] = "${ANEMIAD_RELEASE_SHA256}"

COMPATIBLE_HOST = "aarch64.*-linux"

# ONNX Runtime runs the networks on the processor; without TensorRT it is needed.
PACKAGECONFIG ??= "onnxruntime"
PACKAGECONFIG[onnxruntime] = ",,,,${PN}-onnxruntime"

# BitBake compares no sums of files that are on this machine.
python anemiad_check_release() {
    wanted = d.getVar('ANEMIAD_RELEASE_SHA256')
    uri = '%s;name=release;subdir=release' % d.getVar('ANEMIAD_RELEASE_URI')
    path = bb.fetch2.Fetch([uri], d).localpath(uri)
    found = bb.utils.sha256_file(path)
    if found != wanted:
        bb.fatal('%s has the SHA-256 %s; ANEMIAD_RELEASE_SHA256 is "%s"' % (path, found, wanted))
}
do_unpack[prefuncs] += "anemiad_check_release"
do_unpack[vardeps] += "ANEMIAD_RELEASE_SHA256"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -Dm0755 ${WORKDIR}/release/${ANEMIAD_RELEASE}/bin/anemiad ${D}${bindir}/anemiad
    if ${@bb.utils.contains('PACKAGECONFIG', 'onnxruntime', 'true', 'false', d)}; then
        install -Dm0644 ${WORKDIR}/release/${ANEMIAD_RELEASE}/lib/libonnxruntime.so \
            ${D}${nonarch_libdir}/anemiad/libonnxruntime.so
    fi
}

PACKAGE_BEFORE_PN += "${PN}-onnxruntime"
FILES:${PN}-onnxruntime += "${nonarch_libdir}/anemiad/libonnxruntime.so"

# What is released is what was tested: it is not stripped once more.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
# It was linked outside this build, so without its flags, and may be stripped already.
# nooelint: oelint.vars.insaneskip
INSANE_SKIP:${PN} += "already-stripped ldflags"
# nooelint: oelint.vars.insaneskip
INSANE_SKIP:${PN}-onnxruntime += "already-stripped ldflags"
