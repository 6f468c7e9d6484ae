# For recipes that take files of the project: where they are, and which version it has.

# A recipe looks only beside itself; the project is around the layer.
# nooelint: oelint.vars.fileextrapaths,oelint.vars.outofcontext
FILESEXTRAPATHS:prepend := "${ANEMIA_PROJECT}:"

# The one place that has the version is the project's Cargo.toml.
def anemia_version(d):
    import re
    path = os.path.realpath(os.path.join(d.getVar('ANEMIA_PROJECT'), 'Cargo.toml'))
    bb.parse.mark_dependency(d, path)
    with open(path) as file:
        found = re.search(r'^\[workspace\.package\]$.*?^version = "([^"]+)"$', file.read(), re.MULTILINE | re.DOTALL)
    if not found:
        bb.fatal('%s has no version' % path)
    return found.group(1)

LICENSE ?= "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"
PV = "${@anemia_version(d)}"
SRC_URI = "file://LICENSE;subdir=project"
# Files come here with `;subdir=project`, at the path that they have in the project.
S = "${WORKDIR}/project"
