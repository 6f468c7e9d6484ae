#!/usr/bin/env python3
"""Writes what the recipe anemiad-source must fetch, from Cargo.lock: run it after a change there. With --check it only
says whether the file is that of Cargo.lock."""

import pathlib
import sys
import tomllib

here = pathlib.Path(__file__).resolve().parent
lock = here.parent / "Cargo.lock"
target = here / "meta-anemia/dynamic-layers/rust-bin-layer/recipes-anemia/anemiad-source/anemiad-source-crates.inc"

HEAD = """\
# Made from Cargo.lock by yocto/crates.py.
# scarthgap compares these sums when it fetches. kirkstone looks for them under another name and does not; there Cargo
# compares, with those in Cargo.lock.
"""


def main() -> int:
    uris, sums = [], []
    for package in tomllib.loads(lock.read_text())["package"]:
        source = package.get("source")
        if source is None:
            continue  # A member of the workspace.
        if not source.startswith("registry+") or "checksum" not in package:
            sys.exit(f"crates: {package['name']} is not from the registry: {source}")
        name = f"{package['name']}-{package['version']}"
        uris.append(f"    crate://crates.io/{package['name']}/{package['version']} \\\n")
        sums.append(f'SRC_URI[{name}.sha256sum] = "{package["checksum"]}"\n')
    text = HEAD + 'SRC_URI += "\\\n' + "".join(uris) + '"\n\n' + "".join(sums)
    if "--check" in sys.argv[1:]:
        if not target.exists() or target.read_text() != text:
            print("crates: Cargo.lock has changed; run yocto/crates.py", file=sys.stderr)
            return 1
        return 0
    target.write_text(text)
    print(f"{len(uris)} crates in {target.relative_to(here.parent)}")
    return 0


sys.exit(main())
