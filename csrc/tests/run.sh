#!/bin/sh
# Builds the C++ tests of the kernels and runs them plain, under ASan with UBSan, and under TSan.
# Needs cmake, ninja and pip on the path; Catch2's single header comes as a wheel.
set -eu
cd "$(dirname "$0")/../.."
catch2=build/catch2/catch2/install/include
if [ ! -f "$catch2/catch2/catch.hpp" ]; then
  python -m pip install --quiet --target build/catch2 --no-deps --only-binary=:all: --ignore-requires-python \
    "comma-deps-catch2>=2.13.10,<3"
fi
for sanitizer in "" address,undefined thread; do
  folder=build/cpp-tests-${sanitizer:-plain}
  cmake -S . -B "$folder" -G Ninja -DDMF_FAST_PYTHON=OFF -DDMF_FAST_TESTS=ON \
    -DDMF_FAST_SANITIZER="$sanitizer" -DDMF_FAST_CATCH2_INCLUDE="$PWD/$catch2" >"$folder.log" 2>&1 ||
    { cat "$folder.log"; exit 1; }
  cmake --build "$folder" >"$folder.log" 2>&1 || { grep -E 'error|warning' "$folder.log" | head -40; exit 1; }
  echo "C++ tests, ${sanitizer:-no} sanitizer:"
  "$folder/kernel_tests"
done
