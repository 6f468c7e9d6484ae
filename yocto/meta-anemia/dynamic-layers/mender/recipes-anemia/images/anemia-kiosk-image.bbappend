# An update is a file that Mender installs; what it brings along decides whether it stays.
IMAGE_INSTALL:append = " anemia-update"
# nooelint: oelint.vars.mispell.unknown
do_image_mender[depends] += "anemia-update:do_deploy"
