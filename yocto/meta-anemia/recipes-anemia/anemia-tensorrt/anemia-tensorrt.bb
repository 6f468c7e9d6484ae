SUMMARY = "What anemiad needs to run networks in the TensorRT of the board"
DESCRIPTION = "The small library between the daemon, which is not linked with TensorRT, and the TensorRT that meta-tegra \
has for this board. It must be built against exactly that version."
SECTION = "libs"

DEPENDS += "tensorrt-core tensorrt-plugins"

inherit anemia_project cuda

SRC_URI += "file://crates/tensorrt/shim;subdir=project"

COMPATIBLE_MACHINE = "(tegra)"
PACKAGE_ARCH = "${TEGRA_PKGARCH}"

# The headers of CUDA are those that the class cuda names.
EXTRA_OEMAKE = "\
    'CXX=${CXX}' \
    'INCLUDES=${CUDA_CXXFLAGS}' \
    'LIBRARIES=${LDFLAGS} -lnvinfer -lnvonnxparser' \
    'PREFIX=${prefix}' \
    'DESTDIR=${D}' \
"

do_configure[noexec] = "1"

do_compile() {
    # What somebody built in the source folder for another machine must not be taken for this one's.
    oe_runmake -C ${S}/crates/tensorrt/shim clean
    oe_runmake -C ${S}/crates/tensorrt/shim
}

do_install() {
    oe_runmake -C ${S}/crates/tensorrt/shim install
}

FILES:${PN} += "${nonarch_libdir}/anemiad"
# The daemon opens the driver by its name, so packaging does not see that it is needed.
RDEPENDS:${PN} += "tegra-libraries-cuda"
