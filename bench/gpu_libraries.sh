#!/bin/sh
# Builds the libraries for the python3 on the path, with a torch that has CUDA, into folders side by side; no GPU
# is needed:
#
#   bench/gpu_libraries.sh FOLDER NAME[:DEFINITIONS]...
#
# FOLDER/NAME/dmf_fast gets a CUDA library whose constants (csrc/kernels/cuda/tuning.h) are those of DEFINITIONS,
# such as DMF_PASS_THREADS=64. The one that is called `product` has none, and the other libraries with it.
# DMF_FAST_CUDA_ARCHITECTURES says for which GPUs, 90-real where it is not set.
set -eu
cd "$(dirname "$0")/.."
export PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin" DMF_FAST_CUDA=on
export DMF_FAST_CUDA_ARCHITECTURES="${DMF_FAST_CUDA_ARCHITECTURES:-90-real}"
folder=$1
shift
for variant in "$@"; do
  name=${variant%%:*}
  [ "$name" = product ] && DMF_FAST_CUDA_DEFINITIONS= || DMF_FAST_CUDA_DEFINITIONS=${variant#*:}
  export DMF_FAST_CUDA_DEFINITIONS
  rm -rf "${folder:?}/$name"
  mkdir -p "$folder/$name"
  python3 setup.py -q egg_info --egg-base "$folder/$name" build_ext --build-lib "$folder/$name"
  if [ "$name" != product ]; then # whose other libraries it shares
    rm -r "$folder/$name/dmf_fast/libdmf_fast_cpu.so" "$folder/$name/dmf_fast/"_native.* "$folder/$name/dmf_fast.egg-info"
  fi
done
sh bench/gather_limit.sh "$folder/gather_limit.so" sm_90
