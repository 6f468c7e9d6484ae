SUMMARY = "The networks that ship with anemiad"
DESCRIPTION = "A classifier of pallor and a locator of the conjunctiva. Neither is for deciding about people, see the \
model cards that are with them. The classifier was trained on CP-AnemiC, whose authors ask for citation and academic use."
SECTION = "applications"

inherit anemia_project allarch

SRC_URI += "\
    file://models/locator;subdir=project \
    file://models/pallor;subdir=project \
"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${datadir}/anemiad/models
    cp -R --no-dereference --preserve=mode,timestamps ${S}/models/locator ${S}/models/pallor ${D}${datadir}/anemiad/models/
    find ${D}${datadir}/anemiad/models -type f -exec chmod 0644 {} +
}

FILES:${PN} += "${datadir}/anemiad/models"
