#!/usr/bin/env bash
# One epoch here and in PyTorch, one after the other in the same run, three times; then the growth of the search for
# copies. PYTHON names a Python with torch 2.13.0 and torchvision 0.28.0; without it one is made in .deps (3 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.deps/pytorch/bin/python}
if [ -z "${PYTHON:-}" ] && [ ! -f .deps/pytorch/installed ]; then
    python3 -m venv .deps/pytorch
    .deps/pytorch/bin/pip install -q torch==2.13.0 torchvision==0.28.0 numpy
    touch .deps/pytorch/installed
fi
cargo bench -q --package anemia-trainer --features torch --bench epoch --no-run
for _ in 1 2 3; do
    cargo bench -q --package anemia-trainer --features torch --bench epoch
    "$python" scripts/bench-train.py
done
cargo bench -q --package anemia-trainer --bench copies
