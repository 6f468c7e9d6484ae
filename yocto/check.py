#!/usr/bin/env python3
"""Checks meta-anemia without building: BitBake's own parser reads the layer, what the recipes install is installed
into a folder, and the scripts run on stand-ins. What other layers bring is made up here: their classes are empty, or
nearly so. Run it by scripts/yocto-lint.sh, which fetches BitBake's library and kas."""

import argparse
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types

# The package has BitBake's library without this part, which only building needs.
for missing in ("hashserv", "hashserv.client"):
    sys.modules[missing] = types.ModuleType(missing)

import bb.data
import bb.data_smart
import bb.fetch2
import bb.parse
import bb.event
import jsonschema
import yaml
from kas.configschema import CONFIGSCHEMA
from kas.context import create_global_context
from kas.includehandler import IncludeHandler
from kas.kasusererror import KasUserError

bb.parse.siggen = types.SimpleNamespace(finalise=lambda *_: None)

yocto = pathlib.Path(__file__).resolve().parent
project = yocto.parent
layer = yocto / "meta-anemia"

# What is in the project and, for a reason, in no recipe.
NOT_INSTALLED = {
    # Folders end with a slash.
    "models/mobilenet/": "for tests and figures, see its card",
    "systemd/README.md": "for people",
    "systemd/anemiad-kiosk.pam": "for the session of cage, see the next one",
    "systemd/anemiad-kiosk.service": "starts cage, for which no layer has a recipe: anemia-kiosk has a unit of its own",
    "systemd/kiosk-policies/anemiad.json": "for Chromium; the image has cog",
}

# The classes of other layers, as far as the recipes build on them. A class that is not here is a mistake in a recipe.
CLASSES = {
    "allarch": "",
    "base": "",
    "cargo_bin": """
CARGO_HOME = "${WORKDIR}/cargo_home"
cargo_bin_do_configure() {
    mkdir -p ${CARGO_HOME}
}
cargo_bin_do_install() {
    install -Dm0755 /bin/true ${D}${bindir}/anemiad
}
EXPORT_FUNCTIONS do_configure do_install
""",
    "core-image": 'IMAGE_ROOTFS = "${WORKDIR}/rootfs"\nCORE_IMAGE_EXTRA_INSTALL ?= ""\n',
    "cuda": 'CUDA_CXXFLAGS = "-I=/usr/local/cuda/include"\n',
    "features_check": "",
    "mender-state-scripts": 'MENDER_STATE_SCRIPTS_DIR = "${B}/mender-state-scripts"\n',
    "packagegroup": "",
    "pkgconfig": "",
    "systemd": "",
    "useradd": "",
}

# As in OpenEmbedded's bitbake.conf, for aarch64.
BASE = {
    "B": "${S}",
    "BPN": "${PN}",
    "BP": "${BPN}-${PV}",
    "CXX": "false",
    "D": "${WORKDIR}/image",
    "DEPENDS": "",
    "FILESPATH": "${FILESEXTRAPATHS}${FILE_DIRNAME}/${BP}:${FILE_DIRNAME}/${BPN}:${FILE_DIRNAME}/files",
    "FILESEXTRAPATHS": "",
    "FILE_DIRNAME": "${@os.path.dirname(d.getVar('FILE', False))}",
    "LDFLAGS": "-Wl,-O1",
    "MACHINE_ARCH": "board",
    "OVERRIDES": "aarch64:tegra:class-target:${PN}",
    "PACKAGES": "${PN}-src ${PN}-dbg ${PN}-dev ${PACKAGE_BEFORE_PN} ${PN}",
    "PACKAGE_BEFORE_PN": "",
    "PN": "${@bb.parse.vars_from_file(d.getVar('FILE', False), d)[0]}",
    "STAGING_DIR_TARGET": "/staging",
    "STAGING_LIBDIR_NATIVE": "/staging-native/usr/lib",
    "TEGRA_PKGARCH": "armv8a_tegra",
    "base_sbindir": "/sbin",
    "bindir": "/usr/bin",
    "datadir": "/usr/share",
    "libdir": "/usr/lib",
    "libexecdir": "/usr/libexec",
    "localstatedir": "/var",
    "nonarch_base_libdir": "/lib",
    "nonarch_libdir": "/usr/lib",
    "prefix": "/usr",
    "sysconfdir": "/etc",
    "systemd_system_unitdir": "/lib/systemd/system",
}
# What may stand behind a board in the command of kas.
OVERLAYS = {
    "tx2-nx": [None, "development", "mender-r32", "mender-r32:mender-server", "source-kirkstone"],
    "xavier-nx": [None, "development", "mender-r35", "mender-r35:mender-server", "source-scarthgap"],
    "xavier-nx-kirkstone": [None, "development", "source-kirkstone"],
}
# What a package takes without being told.
FILES = "/usr/bin/* /usr/sbin/* /usr/libexec/* /usr/lib/lib*.so.* /etc /usr/share/${BPN}/* /usr/lib/${BPN}/*"

mistakes: list[str] = []


def mistake(where: object, what: str) -> None:
    mistakes.append(f"{where}: {what}")


def prepared(work: pathlib.Path) -> bb.data_smart.DataSmart:
    """A datastore in which the layer's configuration has been read."""
    classes = work / "classes"
    classes.mkdir()
    for name, text in CLASSES.items():
        (classes / f"{name}.bbclass").write_text(text)
    d = bb.data.init()
    for name, value in BASE.items():
        d.setVar(name, value)
    d.setVar("BBPATH", f"{work}")
    d.setVar("TOPDIR", str(work))
    d.setVar("DL_DIR", str(work / "downloads"))
    d.setVar("__bbclasstype", "recipe")
    d.setVar("LAYERDIR", str(layer))
    for name in ("BBFILES", "BBFILES_DYNAMIC", "BBFILE_COLLECTIONS"):
        d.setVar(name, "")
    d = bb.parse.handle(str(layer / "conf/layer.conf"), d, True)
    d.expandVarref("LAYERDIR")
    d.delVar("LAYERDIR")
    return d


def parsed(recipe: pathlib.Path, base: bb.data_smart.DataSmart, work: pathlib.Path) -> bb.data_smart.DataSmart:
    d = bb.data.createCopy(base)
    d.setVar("FILE", str(recipe))
    d.setVar("WORKDIR", str(work))
    d.setVar("__BBAPPEND", " ".join(str(f) for f in layer.rglob(f"{recipe.stem}.bbappend")))
    return bb.parse.handle(str(recipe), d, False)[""]


def unpack(recipe: pathlib.Path, d: bb.data_smart.DataSmart, work: pathlib.Path) -> set[pathlib.Path]:
    """Does what BitBake's unpacking does; answers what of the project was used."""
    used = set()
    for uri in (d.getVar("SRC_URI") or "").split():
        scheme, rest = uri.split("://", 1)
        path, *parameters = rest.split(";")
        folder = work / dict(p.split("=", 1) for p in parameters).get("subdir", "")
        if scheme == "crate":
            continue
        if path.startswith("dist/"):
            # It is made by `make dist`. This one has the files that the recipe asks for.
            name = d.getVar("ANEMIAD_RELEASE")
            for file in ("bin/anemiad", "lib/libonnxruntime.so"):
                (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / name / file).write_bytes(b"\x7fELF")
            continue
        places = [pathlib.Path(p) / path for p in d.getVar("FILESPATH").split(":") if p]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            mistake(recipe.name, f"{path} is neither beside the recipe nor in the project")
            continue
        inside = found.resolve()
        if inside.is_relative_to(project) and not inside.is_relative_to(layer):
            used |= {f for f in (inside.rglob("*") if inside.is_dir() else [inside]) if f.is_file()}
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            shutil.copytree(found, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.so", "target"))
        else:
            shutil.copy2(found, target)
    return used


def run(recipe: pathlib.Path, d: bb.data_smart.DataSmart, task: str, work: pathlib.Path) -> None:
    if not d.getVar(task, False) or d.getVarFlag(task, "noexec"):
        return
    lines = ["set -eu", "export PATH", "oe_runmake() { eval make -s \"$EXTRA_OEMAKE\" '\"$@\"'; }"]
    lines += ["bbfatal() { echo \"$*\" >&2; exit 1; }", f"EXTRA_OEMAKE=\"{d.getVar('EXTRA_OEMAKE') or ''}\""]
    for name in (task, f"cargo_bin_{task}"):
        body = d.getVar(name)
        if body:
            for unknown in re.findall(r"\$\{[a-zA-Z0-9_:-]+\}", body):
                if d.getVar(unknown[2:-1]) is None and unknown[2:-1] not in re.findall(r"(\w+)=", body):
                    mistake(recipe.name, f"{task} uses {unknown}, which is not set")
            lines.append(f"{name}() {{\n{body}\n}}")
    script = work / f"{task}.sh"
    script.write_text("\n".join([*lines, task]) + "\n")
    (work / "B").mkdir(exist_ok=True)
    done = subprocess.run(["sh", str(script)], cwd=work / "B", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        mistake(recipe.name, f"{task} fails: {done.stderr.strip()}")


def packaged(recipe: pathlib.Path, d: bb.data_smart.DataSmart) -> set[str]:
    """Puts what was installed into packages, and answers its paths."""
    image = pathlib.Path(d.getVar("D"))
    found = image.rglob("*") if image.exists() else []
    left = {"/" + str(f.relative_to(image)) for f in found if f.is_file() or not any(f.iterdir())}
    everything = set(left)
    for package in d.getVar("PACKAGES").split():
        wanted = (d.getVar(f"FILES:{package}") or "").split()
        taken = set()
        for pattern in wanted:
            hits = {f for f in left if fnmatch.fnmatch(f, pattern) or fnmatch.fnmatch(f, pattern + "/*")}
            if not hits and not any(fnmatch.fnmatch(f, pattern + "*") for f in everything):
                mistake(recipe.name, f"FILES:{package} has {pattern}, which nothing is installed to")
            taken |= hits
        # systemd.bbclass adds the units itself.
        units = (d.getVar(f"SYSTEMD_SERVICE:{package}") or "").split()
        for unit in units:
            path = f"{d.getVar('systemd_system_unitdir')}/{unit}"
            if path not in everything:
                mistake(recipe.name, f"SYSTEMD_SERVICE:{package} has {unit}, which is not installed")
            taken |= {path} & left
        if package == d.getVar("PN"):
            usual = [pattern + more for pattern in d.expand(FILES).split() for more in ("", "/*")]
            taken |= {f for f in left if any(fnmatch.fnmatch(f, pattern) for pattern in usual)}
        for file in (d.getVar(f"CONFFILES:{package}") or "").split():
            if file not in taken:
                mistake(recipe.name, f"CONFFILES:{package} has {file}, which is not in the package")
        left -= taken
    for file in sorted(left):
        mistake(recipe.name, f"{file} is installed and in no package")
    return everything


def check_crates(recipe: pathlib.Path, d: bb.data_smart.DataSmart) -> int:
    crates = [uri for uri in d.getVar("SRC_URI").split() if uri.startswith("crate://")]
    for uri in crates:
        data = bb.fetch2.FetchData(uri, d)
        if not data.sha256_expected:
            mistake(recipe.name, f"{uri} has no sum")
    return len(crates)


def check_recipes(work: pathlib.Path) -> None:
    base = prepared(work)
    base.setVar("BBPATH", f"{work}:{layer}")
    # A compiler that writes the file that it is asked for, and nothing in it.
    compiler = work / "c++"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ntouch "$2"\n')
    compiler.chmod(0o755)
    base.setVar("CXX", str(compiler))

    version = re.search(r'^version = "(.+)"', (project / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    used, installed, packages, wanted = set(), set(), set(), {}
    recipes = sorted(layer.rglob("*.bb"))
    for recipe in recipes:
        folder = work / recipe.stem
        folder.mkdir()
        d = parsed(recipe, base, folder)
        if (d.getVar("SRC_URI") or "") and d.getVar("PV") != version:
            mistake(recipe.name, f"has version {d.getVar('PV')}, the project has {version}")
        used |= unpack(recipe, d, folder)
        for task in ("do_configure", "do_compile", "do_install"):
            run(recipe, d, task, folder)
        if recipe.stem.endswith("-image"):
            (folder / "rootfs/etc").mkdir(parents=True)
            run(recipe, d, "anemia_mount_data", folder)
            if "PARTLABEL=UDA /data ext4" not in (folder / "rootfs/etc/fstab").read_text():
                mistake(recipe.name, "the data partition is not in fstab")
            wanted[recipe.name] = d.getVar("IMAGE_INSTALL")
        else:
            installed |= packaged(recipe, d)
            packages |= set(d.getVar("PACKAGES").split())
            for package in d.getVar("PACKAGES").split():
                for kind in ("RDEPENDS", "RRECOMMENDS"):
                    wanted[f"{recipe.name}, {kind}:{package}"] = d.getVar(f"{kind}:{package}") or ""
        if recipe.stem == "anemiad-source":
            print(f"{check_crates(recipe, d)} crates have a sum")
        unknown = [v for v in ("SRC_URI", "DEPENDS", "PACKAGES") if "${" in (d.getVar(v) or "")]
        for name in unknown:
            mistake(recipe.name, f"{name} has a variable that is not set: {d.getVar(name)}")
    for where, names in wanted.items():
        for name in names.split():
            if "${" in name:
                mistake(where, f"{name} is not set")
            elif "anemia" in name and name not in packages:
                mistake(where, f"there is no package {name}")

    # Nothing of the project is forgotten, and no exception is out of date.
    for folder in ("systemd", "models"):
        for file in sorted(f for f in (project / folder).rglob("*") if f.is_file()):
            name = str(file.relative_to(project))
            left_out = any(name == n or n.endswith("/") and name.startswith(n) for n in NOT_INSTALLED)
            if file not in used and not left_out:
                mistake(name, "no recipe installs it")
            if file in used and left_out:
                mistake(name, "is installed, and listed as not installed")

    # What units of the layer start is there, as far as it is the project's.
    for unit in layer.rglob("*.service"):
        for program in re.findall(r"^ExecStart=(\S*anemia\S*)", unit.read_text(), re.MULTILINE):
            if program.replace("@LIBEXECDIR@", base.getVar("libexecdir")) not in installed:
                mistake(unit.name, f"no recipe installs {program}")
    print(f"{len(recipes)} recipes parsed and installed, {len(installed)} files in {len(packages)} packages")


def check_layouts(work: pathlib.Path) -> None:
    """The class that makes room for the data, on layouts like those of NVIDIA."""
    d = prepared(work)
    d.setVar("BBPATH", f"{work}:{layer}")
    recipe = work / "tegra-bootfiles.bb"
    recipe.write_text("inherit anemia_data_partition\ndo_install() {\n    :\n}\n")
    d.setVar("ANEMIA_DATA_BYTES", "2147483648")
    # The Xavier NX.
    d.setVar("MACHINEOVERRIDES", "aarch64:tegra:tegra194")
    d = parsed(recipe, d, work)
    if "anemia_data_partition" not in (d.getVarFlag("do_install", "postfuncs") or ""):
        mistake("anemia_data_partition", "is not run")
    folder = work / "image/usr/share/tegraflash"
    folder.mkdir(parents=True)

    def partition(name: str, size: str, attribute: str, pin: str = "") -> str:
        return (
            f'<partition name="{name}" type="data">\n{pin}<size> {size} </size>\n'
            f"<allocation_attribute> {attribute} </allocation_attribute>\n</partition>\n"
        )

    # What the boot flash pins stays where the boot loader looks for it.
    boot = partition("VER_b", "65536", "8", "<start_location> 0x1FD0000 </start_location>\n")

    def layout(size: int, attribute: str, pin: str = "") -> str:
        return (
            f'<device type="spi" instance="0">\n{boot}</device>\n<device type="sdmmc_user" instance="3">\n'
            + partition("APP", "APPSIZE", "0x8")
            + partition("RECNAME", "RECSIZE", "8", pin)
            + partition("UDA", str(size), attribute)
            + "</device>\n"
        )

    pin = "<start_location> 0x38CA00000 </start_location> <!-- aligned to 0x100000 -->\n"
    files = {
        "flash_fixed.xml": layout(419430400, "8"),
        "flash_rest.xml": layout(18432, "0x808", pin),
        "flash_qspi.xml": f'<device type="spi" instance="0">\n{boot}</device>\n',
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    run(recipe, d, "anemia_data_partition", work)
    files["flash_fixed.xml"] = layout(2147483648, "8")
    files["flash_rest.xml"] = layout(18432, "0x808")
    for name, text in files.items():
        if (folder / name).read_text() != text:
            mistake("anemia_data_partition", f"{name} is not as expected")


def check_scripts(work: pathlib.Path) -> None:
    """What runs on the kiosk, with made-up commands in place of those of the system."""
    commands = work / "commands"
    commands.mkdir()

    def command(name: str, text: str) -> None:
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)

    def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (source,) = [found for found in layer.rglob(name) if found.is_file()]
        copy = commands / name
        copy.write_text(source.read_text().replace("@LIBEXECDIR@/anemia", str(commands)))
        copy.chmod(0o755)
        environment = {"PATH": f"{commands}:/usr/bin:/bin", "WORK": str(work)}
        return subprocess.run([copy, *arguments], env=environment, capture_output=True, text=True, check=False)

    def expect(what: str, done: subprocess.CompletedProcess[str], code: int) -> None:
        if done.returncode != code:
            mistake("scripts", f"{what}: {done.returncode} in place of {code}: {done.stderr.strip()}")

    shipped, data = work / "shipped", work / "data"
    shipped.mkdir()
    (shipped / "anemiad.yaml").write_text("of the image")
    owner = f"{os.getuid()}:{os.getgid()}"
    expect("data, first start", script("anemia-data", str(data), str(shipped), owner), 0)
    (data / "anemia/config/anemiad.yaml").write_text("of the kiosk")
    expect("data, next start", script("anemia-data", str(data), str(shipped), owner), 0)
    if (data / "anemia/config/anemiad.yaml").read_text() != "of the kiosk":
        mistake("anemia-data", "replaces the configuration of the kiosk")

    # A daemon that is up, one that starts again and again, and one whose configuration is wrong.
    states = {
        "up": ("case $2 in *ActiveState) echo active ;; *) echo 0 ;; esac", 0),
        "again": ("case $2 in *ActiveState) echo active ;; *) echo $$ ;; esac", 1),
        "failed": ("case $2 in *ActiveState) echo failed ;; *Status) echo 78 ;; *) echo exit-code ;; esac", 1),
        "starting": ("echo activating", 1),
    }
    for name, (text, code) in states.items():
        command("systemctl", f'[ "$1" = show ] || {{ echo "$@" >>$WORK/done; exit; }}\n{text}')
        expect(f"healthy, {name}", script("anemia-healthy", "3", "0"), code)

    # (healthy, exit code of commit, of rollback) and what must have been done. 2 is Mender's word for: no update.
    cases = {
        (0, 0, 1): ["commit"],
        (0, 2, 1): ["commit"],
        (1, 0, 0): ["rollback", "reboot"],
        (1, 0, 2): ["rollback"],
        (0, 1, 0): ["commit", "rollback", "reboot"],
    }
    command("systemctl", "echo $1 >>$WORK/done")
    for (healthy, commit, rollback), done in cases.items():
        command("anemia-healthy", f"exit {healthy}")
        command("mender", f"echo $1 >>$WORK/done\n[ $1 = commit ] && exit {commit}\nexit {rollback}")
        (work / "done").write_text("")
        script("anemia-update")
        if (work / "done").read_text().split() != done:
            mistake("anemia-update", f"{healthy, commit, rollback}: {(work / 'done').read_text().split()}, not {done}")


def check_kas() -> None:
    paths = sorted((yocto / "kas").rglob("*.yml"))
    for path in paths:
        try:
            jsonschema.validate(yaml.safe_load(path.read_text()), CONFIGSCHEMA)
        except jsonschema.ValidationError as error:
            mistake(path.name, error.message)
    create_global_context(argparse.Namespace(no_color=True))
    boards = [p for p in (yocto / "kas").glob("*.yml") if "machine" in yaml.safe_load(p.read_text())]
    for board in boards:
        for overlay in OVERLAYS[board.stem]:
            files = [str(board)] + [str(yocto / f"kas/{name}.yml") for name in (overlay or "").split(":") if name]
            config, missing = IncludeHandler(files, use_lock=False).get_config()
            where = ":".join(pathlib.Path(f).name for f in files)
            if missing:
                mistake(where, f"includes files of repositories: {missing}")
            for key in ("machine", "distro", "target", "repos"):
                if not config.get(key):
                    mistake(where, f"has no {key}")
            for name, repo in config["repos"].items():
                if "url" in repo and not (repo.get("branch") or repo.get("commit")):
                    mistake(where, f"{name} has no branch")
                for inside in repo.get("layers") or {}:
                    if "url" not in repo and not (project / inside / "conf/layer.conf").exists():
                        mistake(where, f"there is no layer {inside}")
            if not (layer / f"conf/distro/{config['distro']}.conf").exists():
                mistake(where, f"there is no distro {config['distro']}")
            if not list(layer.rglob(f"{config['target']}.bb")):
                mistake(where, f"there is no recipe {config['target']}")
    print(f"{len(paths)} kas files, {len(boards)} boards")


try:
    for check in (check_recipes, check_layouts, check_scripts):
        with tempfile.TemporaryDirectory() as name:
            check(pathlib.Path(name))
    check_kas()
except (bb.parse.ParseError, KasUserError) as error:
    mistake("yocto", str(error))
for line in mistakes:
    print(line, file=sys.stderr)
sys.exit(1 if mistakes else 0)
