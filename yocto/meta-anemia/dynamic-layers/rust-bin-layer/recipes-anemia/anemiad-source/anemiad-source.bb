# Not anemiad-src: so is called the package with the sources of the recipe anemiad.
SUMMARY = "Screening for anemia from the colour of the inner eyelid, from source"
DESCRIPTION = "The daemon of the kiosk, compiled with the toolchain of meta-rust-bin and without network: all crates \
are fetched beforehand. It takes the place of the recipe anemiad."
SECTION = "applications"
# Of the project; what is linked to it has other licences, which the releases of the project list.
LICENSE = "Apache-2.0"

# The bindings of V4L2 are made while it is built, by libclang (layer meta-clang).
DEPENDS += "clang-native gstreamer1.0 gstreamer1.0-plugins-base"

require recipes-anemia/anemiad/anemiad.inc
# Made from Cargo.lock by yocto/crates.py.
require anemiad-source-crates.inc

inherit cargo_bin pkgconfig

# The whole workspace: Cargo reads the description of every member, though only the daemon is built.
SRC_URI += "\
    file://cargo.toml \
    file://Cargo.lock;subdir=project \
    file://Cargo.toml;subdir=project \
    file://calibrator;subdir=project \
    file://crates;subdir=project \
    file://daemon;subdir=project \
    file://trainer;subdir=project \
"

COMPATIBLE_HOST = "aarch64.*-linux"

export LIBCLANG_PATH = "${STAGING_LIBDIR_NATIVE}"
export BINDGEN_EXTRA_CLANG_ARGS = "--sysroot=${STAGING_DIR_TARGET} --target=aarch64-linux-gnu"

# A kiosk does not need `anemiad demo`. The variable is that of the class cargo_bin.
# nooelint: oelint.vars.mispell
EXTRA_CARGO_FLAGS = "--locked --offline --package anemiad --no-default-features"

do_configure:append() {
    # An older meta-rust-bin writes a file `config` there, which goes before config.toml.
    file=${CARGO_HOME}/config.toml
    if [ -e ${CARGO_HOME}/config ]; then
        file=${CARGO_HOME}/config
    fi
    # Where this runs again, it stands there already.
    [ ! -e $file ] || sed -i '/^# From here on: anemiad-source$/,$d' $file
    echo '# From here on: anemiad-source' >>$file
    sed 's,@CRATES@,${WORKDIR}/cargo_home/bitbake,' ${WORKDIR}/cargo.toml >>$file
}

# Both bring the same files.
RCONFLICTS:${PN} = "anemiad"
