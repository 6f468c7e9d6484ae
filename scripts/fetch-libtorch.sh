#!/usr/bin/env bash
# Fetches libtorch for the CPU into a folder, unless it is there: fetch-libtorch.sh FOLDER
set -euo pipefail
folder=$1
if [ "$(uname -m)" != x86_64 ]; then
    echo "libtorch: only x86-64 is prepared; install PyTorch 2.13.0 and let LIBTORCH name its folder" >&2
    exit 1
fi
requirements=$(dirname "$0")/requirements-libtorch.txt
if cmp -s "$requirements" "$folder/installed-from"; then
    exit
fi
echo "libtorch: fetching 540 MB"
mkdir -p "$(dirname "$folder")"
work=$(mktemp -d -p "$(dirname "$folder")")
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp --abi cp311 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 \
    --dest "$work" --requirement "$requirements"
python3 - "$work" <<'PYTHON'
import glob, os, sys, zipfile
work = sys.argv[1]
wanted = {"libtorch_cpu.so", "libc10.so", "libcudart.so.13", "libcupti.so.13"}
def take(archive, member, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(member) as source, open(target, "wb") as out:
        while piece := source.read(1 << 24):
            out.write(piece)
for wheel in glob.glob(work + "/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            name = os.path.basename(member)
            if member.startswith("torch/include/") and name:
                take(archive, member, f"{work}/libtorch/{member[len('torch/'):]}")
            elif name in wanted or name.startswith("libgomp"):
                take(archive, member, f"{work}/libtorch/lib/{name}")
    os.remove(wheel)
with open(work + "/libtorch/build-version", "w") as out:
    out.write("2.13.0\n")
PYTHON
# PyTorch's own libtorch.so only pulls in the CPU part and the CUDA part; this one pulls in the CPU part.
cc -shared -o "$work/libtorch/lib/libtorch.so" -x c /dev/null -Wl,-soname,libtorch.so \
    -L"$work/libtorch/lib" -Wl,--no-as-needed -ltorch_cpu -Wl,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined
cp "$requirements" "$work/libtorch/installed-from"
rm -rf "$folder"
mv "$work/libtorch" "$folder"
