#!/bin/sh
# Builds kernels, operators, Python module and C++ tests under ASan with UBSan, and kernels and C++ tests under
# TSan. Runs the C++ tests of both builds and, with the first, the Python tests of hostile calls and of the operators.
# Python tests compare the optimized kernels, as shipped, with the reference; `run.sh plain` also runs the C++ tests
# on them. Needs cmake, ninja, pip and a Python with torch on the path; Catch2's single header comes as a wheel.
set -eu
cd "$(dirname "$0")/../.."
catch2=build/catch2/catch2/install/include
if [ ! -f "$catch2/catch2/catch.hpp" ]; then
  python -m pip install --quiet --target build/catch2 --no-deps --only-binary=:all: --ignore-requires-python \
    "comma-deps-catch2>=2.13.10,<3"
fi

avx512=ON # compiling what this machine cannot run takes a third of the time
if [ -r /proc/cpuinfo ] && ! grep -q avx512dq /proc/cpuinfo; then avx512=OFF; fi

build() { # sanitizer folder and more settings
  sanitizer=$1 folder=$2
  shift 2
  cmake -S . -B "$folder" -G Ninja -DDMF_FAST_PYTHON=OFF -DDMF_FAST_TESTS=ON -DDMF_FAST_AVX512=$avx512 \
    -DDMF_FAST_SANITIZER="$sanitizer" -DDMF_FAST_CATCH2_INCLUDE="$PWD/$catch2" "$@" >"$folder.log" 2>&1 ||
    { cat "$folder.log"; exit 1; }
  cmake --build "$folder" >"$folder.log" 2>&1 || { grep -E 'error|warning' "$folder.log" | head -40; exit 1; }
}

# The package with the libraries of a build; torch and Python have no sanitizers.
python_tests() { # folder
  package=$1/package
  rm -rf "$package"
  mkdir -p "$package/dmf_fast"
  for part in "$PWD"/dmf_fast/*; do
    case $part in *.so) ;; *) ln -s "$part" "$package/dmf_fast" ;; esac
  done
  ln -s "$PWD/tests" "$PWD/pyproject.toml" "$package"
  cmake --install "$1" --prefix "$package/dmf_fast" >/dev/null
  libraries=
  for library in libasan.so libubsan.so libstdc++.so.6; do
    libraries="$libraries $(${CXX:-c++} -print-file-name=$library)"
  done
  cd "$package"
  LD_PRELOAD="$libraries" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024 \
    python -m pytest -q -p no:cacheprovider -k "not compiled and not opcheck" tests/test_native_entries.py \
    tests/training/engines/test_descent.py tests/training/engines/test_cuda_block.py \
    tests/observations/test_layout.py tests/serving/test_top_columns.py tests/ops/test_operators.py
}

if [ "${1:-}" = plain ]; then
  build "" build/cpp-tests-plain
  exec build/cpp-tests-plain/kernel_tests
fi

torch=$(python -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent)')
build address,undefined build/cpp-tests-address -DDMF_FAST_PYTHON=ON -DPython_EXECUTABLE="$(command -v python)" \
  -Dpybind11_DIR="$(python -c 'import pybind11; print(pybind11.get_cmake_dir())')" \
  -DDMF_FAST_TORCH_INCLUDE="$torch/include" -DDMF_FAST_TORCH_LIBRARY="$torch/lib/libtorch_cpu.so" \
  -DDMF_FAST_TORCH_VERSION="$(python -c 'import torch; print(torch.__version__)')"
build thread build/cpp-tests-thread
{ build/cpp-tests-address/kernel_tests && (python_tests build/cpp-tests-address); } \
  >build/cpp-tests-address.log 2>&1 &
address=$!
passed=true
echo "C++ tests, thread sanitizer:"
build/cpp-tests-thread/kernel_tests || passed=false
echo "C++ and Python tests, address and undefined-behavior sanitizers:"
wait "$address" || passed=false
cat build/cpp-tests-address.log
$passed
