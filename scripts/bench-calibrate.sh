#!/usr/bin/env bash
# int8 here and by ONNX Runtime's own quantize_static: the same networks, calibration pictures and test pictures.
# RUN names a folder of `anemia-train cv`, DATA that of its pictures. PYTHON names a Python with onnx 1.23.2 and
# onnxruntime 1.31.1; without it one is made in .deps.
set -euo pipefail
: "${RUN:?a folder of anemia-train cv}" "${DATA:?the folder with its pictures}"
RUN=$(realpath "$RUN")
DATA=$(realpath "$DATA")
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$PWD/.deps/quantize/bin/python
    if [ ! -f .deps/quantize/installed ]; then
        python3 -m venv .deps/quantize
        .deps/quantize/bin/pip install -q onnx==1.23.2 onnxruntime==1.31.1 sympy
        touch .deps/quantize/installed
    fi
fi
export RUN DATA PYTHON
cargo bench -q --package anemia-calibrator --bench peer
