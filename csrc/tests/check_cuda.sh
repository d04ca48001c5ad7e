#!/bin/sh
# Compiles the CUDA sources for the given architectures, such as "90-real", against the installed torch, without a
# GPU and without linking, and reports which kernels spill registers. Needs cmake and ninja on the path, and nvcc or
# CUDA_HOME.
set -eu
cd "$(dirname "$0")/../.."
nvcc=$(command -v nvcc || command -v "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" || true)
if [ -z "$nvcc" ]; then
  echo "CUDA sources: not compiled, as nvcc is not here"
  exit 0
fi
folder=build/cuda-check
mkdir -p build
torch=$(python -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent / "include")')
cmake -S . -B "$folder" -G Ninja -DDMF_FAST_PYTHON=OFF -DDMF_FAST_CUDA=check -DCMAKE_CUDA_COMPILER="$nvcc" \
  -DDMF_FAST_CUDA_ARCHITECTURES="$1" -DDMF_FAST_TORCH_INCLUDE="$torch" >"$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
# A fresh build each time, so that the log has every kernel.
cmake --build "$folder" --clean-first --target cuda_objects >"$folder.log" 2>&1 ||
  { grep -E 'error|warning' "$folder.log" | head -40; exit 1; }
if grep -E 'warning' "$folder.log"; then exit 1; fi
awk '/Compiling entry function/ { split($0, quoted, "\047"); kernel = quoted[2]; architecture = quoted[4]; ++kernels }
     /bytes spill stores/ && $5 > 0 { print "  spills " $5 " bytes on " architecture ": " kernel; ++spilling }
     END { printf "CUDA sources: %d kernels compiled, %d spill registers\n", kernels, spilling }' "$folder.log" |
  { command -v c++filt >/dev/null && c++filt || cat; } | sort
