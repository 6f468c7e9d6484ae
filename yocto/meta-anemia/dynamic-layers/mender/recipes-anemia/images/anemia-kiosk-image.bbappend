# An update is a file that Mender installs; what it brings along decides whether it stays.
IMAGE_INSTALL:append = " anemia-update"
# nooelint: oelint.vars.mispell.unknown
do_image_mender[depends] += "anemia-update:do_deploy"

# An image that waits for a server that it does not know can never be updated.
python anemia_check_server() {
    if d.getVar('ANEMIA_MENDER_SERVER') and not d.getVar('MENDER_SERVER_URL'):
        bb.fatal('MENDER_SERVER_URL is empty; mender-server.yml needs the address of a Mender server')
}
do_rootfs[prefuncs] += "anemia_check_server"
