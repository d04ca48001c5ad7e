"""Builds the native libraries: a thin driver of CMake and ninja. Everything else is in pyproject.toml.

scikit-build-core would save thirty of these lines and cost more than it saves. Its setuptools backend removes
the build folder first, so any change to a source recompiles all kernels. Its own backend configures editable
installs in the root of the tree, for a single torch and compiler. Both end in CMake's errors, not a sentence.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 10)


class CMakeBuild(build_ext):
    """Configures, builds and installs all targets of CMakeLists.txt into the package."""

    def run(self) -> None:
        """Build once: CMake knows the targets, the extension list only names the package."""
        torch_settings = describe_torch()
        require_program("cmake", "pip install cmake")
        require_program("ninja", "pip install ninja")
        compiler = os.environ.get("CXX", "c++")
        require_program(
            compiler.split()[0], "install a C++20 compiler such as g++ 11 (apt install g++) or set CXX"
        )
        package = (
            ROOT / "dmf_fast"
            if self.inplace or self.editable_mode
            else Path(self.build_lib).resolve() / "dmf_fast"
        )
        settings = [f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}", f"-DPython_EXECUTABLE={sys.executable}",
                    f"-Dpybind11_DIR={pybind11_folder()}", *torch_settings, *cuda_settings()]  # fmt: skip
        # CMake remembers compilers and paths: other ones get a folder of their own.
        key = hashlib.sha256("\n".join([compiler, *settings]).encode()).hexdigest()[:8]
        build = ROOT / "build" / f"{sys.implementation.cache_tag}-{key}"
        settings.append(f"-DDMF_FAST_CUDA_DEFINITIONS={os.environ.get('DMF_FAST_CUDA_DEFINITIONS', '')}")
        configure = ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", f"-DCMAKE_INSTALL_PREFIX={package}"]
        self.step([*configure, *settings], "CMake could not configure the build")
        jobs = [f"-j{number}"] if (number := os.environ.get("MAX_JOBS")) else []  # else ninja chooses
        self.step(["cmake", "--build", build, *jobs], "The native libraries did not compile")
        (package / "libdmf_fast_cuda.so").unlink(missing_ok=True)  # of another build, where this one has none
        self.step(["cmake", "--install", build], "The native libraries could not be installed")

    def step(self, command: list[object], failure: str) -> None:
        """Run `command`; say in one sentence what failed."""
        if subprocess.run([str(part) for part in command]).returncode != 0:
            stop(f"{failure}: read the first error above, fix it, then run pip install again.")

    def get_outputs(self) -> list[str]:
        """Return nothing: CMake installs the files."""
        return []


def describe_torch() -> list[str]:
    """Return the CMake settings that say where torch is."""
    try:
        import torch
    except ImportError:
        stop("torch is missing where the build runs: run `pip install torch`, then pip install "
             "--no-build-isolation.")  # fmt: skip
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        stop(f"torch {torch.__version__} is too old, 2.10 or later is needed: run `pip install -U torch`.")
    folder = Path(torch.__file__).resolve().parent
    suffix = "dylib" if sys.platform == "darwin" else "so"
    return [f"-DDMF_FAST_TORCH_INCLUDE={folder / 'include'}", f"-DDMF_FAST_TORCH_VERSION={torch.__version__}",
            f"-DDMF_FAST_TORCH_LIBRARY={folder / 'lib' / f'libtorch_cpu.{suffix}'}"]  # fmt: skip


def cuda_settings() -> list[str]:
    """Return the CMake settings of the CUDA library, as DMF_FAST_CUDA asks: on, off, check or auto."""
    import torch

    wanted = os.environ.get("DMF_FAST_CUDA", "auto")
    compiler, cuda_of_torch = find_nvcc(), torch.version.cuda
    if wanted not in ("on", "off", "check", "auto"):
        stop(f"DMF_FAST_CUDA must be on, off, check or auto, got {wanted!r}.")
    if wanted == "auto":
        wanted = "on" if compiler and cuda_of_torch else "off"
    if wanted == "off":
        return ["-DDMF_FAST_CUDA=off"]
    if compiler is None:
        stop(
            f"DMF_FAST_CUDA={wanted} needs `nvcc`, which is not there: install the CUDA toolkit and put nvcc "
            "on the path, or set CUDACXX to it."
        )
    if wanted == "on" and cuda_of_torch is None:
        stop(
            f"DMF_FAST_CUDA=on needs a torch with CUDA, but torch {torch.__version__} has none: install one "
            "that has (https://pytorch.org/get-started), or set DMF_FAST_CUDA=check to compile only."
        )
    if wanted == "on" and (release := cuda_release(compiler)).split(".")[0] != cuda_of_torch.split(".")[0]:
        stop(
            f"nvcc is of CUDA {release}, torch of CUDA {cuda_of_torch}, and a driver may take one and not "
            "the other: install a matching nvcc, or set DMF_FAST_CUDA=off."
        )
    folder = Path(torch.__file__).resolve().parent
    settings = [f"-DDMF_FAST_CUDA={wanted}", f"-DCMAKE_CUDA_COMPILER={compiler}",
                f"-DDMF_FAST_TORCH_CUDA_LIBRARY={folder / 'lib' / 'libtorch_cuda.so'}"]  # fmt: skip
    if "DMF_FAST_CUDA_ARCHITECTURES" in os.environ:
        settings.append(f"-DDMF_FAST_CUDA_ARCHITECTURES={os.environ['DMF_FAST_CUDA_ARCHITECTURES']}")
    return settings


def find_nvcc() -> str | None:
    """Return the path of nvcc: CUDACXX, the one on the path, or CUDA's own folder."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which(os.environ.get("CUDACXX", "nvcc")) or shutil.which(f"{home}/bin/nvcc")


def cuda_release(compiler: str) -> str:
    """Return the release of CUDA that the nvcc at `compiler` belongs to, such as 13.0."""
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    if found is None:
        stop(f"`{compiler} --version` names no release: set CUDACXX to nvcc.")
    return found.group(1)


def pybind11_folder() -> str:
    """Return the folder of pybind11's CMake files."""
    try:
        import pybind11
    except ImportError:
        stop("pybind11 is missing where the build runs: run `pip install pybind11`.")
    return str(pybind11.get_cmake_dir())


def require_program(name: str, remedy: str) -> None:
    """Stop when the program `name` is not on the path."""
    if shutil.which(name) is None:
        stop(f"The build needs `{name}`, which is not on the path: {remedy}.")


def stop(sentence: str) -> None:
    """End the build with one sentence instead of a traceback."""
    raise SystemExit(f"dmf_fast: {sentence}")


setup(ext_modules=[Extension("dmf_fast._native", sources=[])], cmdclass={"build_ext": CMakeBuild})
