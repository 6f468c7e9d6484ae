"""Adds to a parts list (CycloneDX) what cargo does not know of: sbom.py FROM TO PROGRAM MACHINE."""

import hashlib
import json
import pathlib
import re
import sys
import uuid

source, target, program, machine = sys.argv[1:]
project = pathlib.Path(__file__).parent.parent
bom = json.loads(pathlib.Path(source).read_text())


def sha256(path: pathlib.Path) -> list[dict]:
    return [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}]


pinned = re.search(r"^onnxruntime==(\S+)", (project / "scripts/requirements-onnxruntime.txt").read_text(), re.MULTILINE)
bom["components"].append(
    {
        "type": "library",
        "bom-ref": "onnxruntime",
        "name": "onnxruntime",
        "version": pinned[1],
        "purl": f"pkg:pypi/onnxruntime@{pinned[1]}",
        "licenses": [{"license": {"id": "MIT"}}],
        "hashes": sha256(project / (".deps/onnxruntime-arm64" if machine == "aarch64" else ".deps/onnxruntime") / "libonnxruntime.so"),
    }
)
if program == "anemiad":
    for manifest in sorted((project / "models").glob("*/manifest.yaml")):
        name = manifest.parent.name
        version = re.search(r"^version: (\S+)", manifest.read_text(), re.MULTILINE)[1]
        bom["components"].append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"model-{name}",
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "hashes": sha256(manifest),
            }
        )
if program == "anemia-train":
    pinned = re.search(r"^torch==(\S+)", (project / "scripts/requirements-libtorch.txt").read_text(), re.MULTILINE)
    bom["components"].append(
        {
            "type": "library",
            "bom-ref": "torch",
            "name": "torch",
            "version": pinned[1],
            "purl": f"pkg:pypi/torch@{pinned[1]}",
            "licenses": [{"license": {"id": "BSD-3-Clause"}}],
        }
    )
# Where it was made is nobody's business, and would differ from place to place.
text = json.dumps(bom, indent=1, sort_keys=True)
text = re.sub(r"(path\+)?file://[^\"#?]*?/(daemon|trainer|calibrator|crates/[a-z]+)(?=[\"#?])", r"file:///anemiad/\2", text)
bom = json.loads(text)
bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"
pathlib.Path(target).write_text(json.dumps(bom, indent=1, sort_keys=True) + "\n")
