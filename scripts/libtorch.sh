#!/usr/bin/env bash
# Installs libtorch for the CPU into .deps/libtorch, unless it is there or the variable LIBTORCH names another one: the
# folder `torch` of a PyTorch 2.13.0 installation with CUDA, for example.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh "$@"

if [ -n "${LIBTORCH:-}" ]; then
    echo "libtorch: using $LIBTORCH"
    exit
fi
scripts/fetch-libtorch.sh .deps/libtorch
