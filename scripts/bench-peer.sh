#!/usr/bin/env bash
# The daemon's work on frames of 1280×720 beside that of a Python service with OpenCV and ONNX Runtime, on the same frames and in
# one run. PYTHON names a Python with tests/bench/python/requirements.txt; without it one is made in .deps.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.deps/peer/bin/python}
if [ -z "${PYTHON:-}" ] && [ ! -f .deps/peer/installed ]; then
    python3 -m venv .deps/peer
    .deps/peer/bin/pip install -q --disable-pip-version-check -r tests/bench/python/requirements.txt
    touch .deps/peer/installed
fi
frames=$(mktemp)
trap 'rm -f "$frames"' EXIT
peer() { cargo bench -q --package anemiad --bench peer -- "$@"; }
peer --render "$frames" 1280 720 40
for run in 1 2 3; do
    echo "python, each frame anew   $("$python" tests/bench/python/service.py models "$frames" 1280 720 40)"
    echo "anemiad, each frame anew  $(peer "$PWD/models" "$frames" 1280 720 40)"
done
