#!/usr/bin/env bash
# Puts TensorRT-RTX, with its headers, and the shim that is built against both, into .deps/tensorrt-rtx, unless it is there: to
# test on a machine without a GPU that NVIDIA's own code reads and builds the networks, and to run them on a PC with an RTX card.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh

folder=$PWD/.deps/tensorrt-rtx
requirements=scripts/requirements-tensorrt-rtx.txt
# The crate that ships the headers; its release goes with that of the library.
headers_crate=trtx-sys@=0.9.1+rtx1.7
headers=TRT-RTX-1.7

if ! cmp -s "$requirements" "$folder/installed-from" || [ ! -d "$folder/headers" ]; then
    echo "tensorrt-rtx: fetching the library (170 MB) and its headers"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --platform manylinux_2_28_x86_64 --dest "$work" --requirement "$requirements"
    python3 -m zipfile -e "$work"/*.whl "$work/wheel"
    (
        cd "$work"
        cargo init -q --lib --name headers headers
        cd headers
        cargo add -q --no-default-features "$headers_crate"
        cargo metadata --format-version 1 >"$work/metadata.json"
    )
    source=$(python3 - "$work/metadata.json" <<'PYTHON'
import json, os, sys
packages = json.load(open(sys.argv[1]))["packages"]
print(os.path.dirname(next(p["manifest_path"] for p in packages if p["name"] == "trtx-sys")))
PYTHON
    )
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$work"/wheel/onnxruntime_ep_nv_tensorrt_rtx/libtensorrt_*rtx.so.* "$folder/"
    for library in libtensorrt_rtx libtensorrt_onnxparser_rtx; do
        ln -sf "$(basename "$folder/$library".so.*.*.*)" "$folder/$library.so.1"
        ln -sf "$library.so.1" "$folder/$library.so"
    done
    cp -r "$source/TensorRT-Headers" "$folder/headers"
    cp "$requirements" "$folder/installed-from"
fi

shim=crates/tensorrt/shim
# The crate has headers of TensorRT 11, too, and of older releases of TensorRT-RTX: the shim compiles against all of them.
for version in "$folder"/headers/TRT-*; do
    c++ -std=c++14 -Wall -Wextra -Werror -fsyntax-only -isystem "$folder/headers" -isystem "$version" \
        "$shim/anemia_tensorrt.cpp"
    echo "tensorrt-rtx: the shim compiles against $(basename "$version")"
done

target=$folder/libanemia_tensorrt.so
if [ ! -f "$target" ] || [ "$shim/anemia_tensorrt.cpp" -nt "$target" ] || [ "$shim/anemia_tensorrt.h" -nt "$target" ]; then
    make -C "$shim" OUT="$target.partial" INCLUDES="-isystem $folder/headers -isystem $folder/headers/$headers" \
        LIBRARIES="-L$folder -ltensorrt_rtx -ltensorrt_onnxparser_rtx -Wl,-rpath,'\$\$ORIGIN'"
    mv "$target.partial" "$target"
fi
echo "tensorrt-rtx: $target"
