#!/bin/sh
# What is most worth knowing of the CUDA backend on a machine with a GPU and no network: see bench/gpu_first.py.
cd "$(dirname "$0")/.." && exec python3 -m bench.gpu_first "$@"
