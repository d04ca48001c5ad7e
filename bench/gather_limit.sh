#!/bin/sh
# Compiles the gather-only kernel for an architecture, such as sm_90; no GPU is needed:
#
#   bench/gather_limit.sh FILE ARCHITECTURE
set -eu
exec nvcc -O3 -std=c++17 "-arch=$2" -shared -Xcompiler -fPIC "$(dirname "$0")/gather_limit.cu" -o "$1"
