#!/bin/sh
# Builds the C++ tests of the kernels under ASan with UBSan and under TSan, and runs both at once. As they ship,
# optimized, the kernels meet their oracle from Python; `run.sh plain` tests that build from here too.
# Needs cmake, ninja and pip on the path; Catch2's single header comes as a wheel.
set -eu
cd "$(dirname "$0")/../.."
catch2=build/catch2/catch2/install/include
if [ ! -f "$catch2/catch2/catch.hpp" ]; then
  python -m pip install --quiet --target build/catch2 --no-deps --only-binary=:all: --ignore-requires-python \
    "comma-deps-catch2>=2.13.10,<3"
fi

avx512=ON # compiling what this machine cannot run takes a third of the time
if [ -r /proc/cpuinfo ] && ! grep -q avx512dq /proc/cpuinfo; then avx512=OFF; fi

build() { # sanitizer folder
  cmake -S . -B "$2" -G Ninja -DDMF_FAST_PYTHON=OFF -DDMF_FAST_TESTS=ON -DDMF_FAST_AVX512=$avx512 \
    -DDMF_FAST_SANITIZER="$1" -DDMF_FAST_CATCH2_INCLUDE="$PWD/$catch2" >"$2.log" 2>&1 || { cat "$2.log"; exit 1; }
  cmake --build "$2" >"$2.log" 2>&1 || { grep -E 'error|warning' "$2.log" | head -40; exit 1; }
}

if [ "${1:-}" = plain ]; then
  build "" build/cpp-tests-plain
  exec build/cpp-tests-plain/kernel_tests
fi

build address,undefined build/cpp-tests-address
build thread build/cpp-tests-thread
build/cpp-tests-address/kernel_tests >build/cpp-tests-address.log 2>&1 &
address=$!
passed=true
echo "C++ tests, thread sanitizer:"
build/cpp-tests-thread/kernel_tests || passed=false
echo "C++ tests, address and undefined-behavior sanitizers:"
wait "$address" || passed=false
cat build/cpp-tests-address.log
$passed
