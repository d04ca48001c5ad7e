"""The files of a build, and the message of one that cannot succeed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
FILES = {"CMakeLists.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE", "tests/check_wheel.py"}


def build(tmp_path: Path, **environment: str) -> str:
    """Run the build with `environment` and return what it said; it must fail before it writes anything."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path / "lib")],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert not (tmp_path / "lib").exists()
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("dmf_fast:")]
    assert "Traceback" not in done.stderr
    return sentence


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    sentence = build(tmp_path, CXX="no-such-compiler")
    assert "`no-such-compiler`, which is not on the path: install a C++20 compiler" in sentence


def test_missing_build_tools_are_named(tmp_path: Path) -> None:
    assert "needs `cmake`" in build(tmp_path, PATH=str(tmp_path))


def test_a_torch_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "old" / "torch"
    old.mkdir(parents=True)
    (old / "__init__.py").write_text('__version__ = "2.4.1"\n')
    sentence = build(tmp_path, PYTHONPATH=str(old.parent))
    assert "torch 2.4.1 is too old, 2.10 or later is needed: run `pip install -U torch`" in sentence


def test_a_missing_torch_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "torch"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text('raise ImportError("no torch")\n')
    assert "torch is missing where the build runs" in build(tmp_path, PYTHONPATH=str(missing.parent))


def test_an_unknown_cuda_setting_is_refused(tmp_path: Path) -> None:
    assert "DMF_FAST_CUDA must be on, off, check or auto, got 'yes'" in build(tmp_path, DMF_FAST_CUDA="yes")


def test_cuda_without_nvcc_names_what_is_missing(tmp_path: Path) -> None:
    sentence = build(tmp_path, DMF_FAST_CUDA="check", CUDACXX="no-such-nvcc", CUDA_HOME=str(tmp_path))
    assert "DMF_FAST_CUDA=check needs `nvcc`, which is not there: install the CUDA toolkit" in sentence


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_cuda_with_a_torch_that_has_none_is_refused(tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    sentence = build(tmp_path, DMF_FAST_CUDA="on", CUDACXX=str(nvcc))
    assert "DMF_FAST_CUDA=on needs a torch with CUDA, but torch" in sentence


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is packed, since a build leaves its lists of files next to the sources."""
    tree = tmp_path / "tree"
    for name in ("csrc", "dmf_fast"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, "MANIFEST.in"):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    return tree


def test_the_source_archive_holds_all_that_the_build_needs(tree: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", "packed"]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (archive,) = (tree / "packed").iterdir()
    with tarfile.open(archive) as packed:
        held = {name.split("/", 1)[-1] for name in packed.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.*") if path.is_file()}
    assert sources | FILES <= held
    assert not any(name.endswith(".so") for name in held)


def package_files() -> set[str]:
    """Return all that is no library and no cache of ours."""
    files = {path for path in (ROOT / "dmf_fast").rglob("*") if path.is_file()}
    return {str(path.relative_to(ROOT)) for path in files if path.suffix not in {".so", ".pyc"}}


def test_the_package_includes_templates_and_types(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "built"
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    built = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"dmf_fast/py.typed", "dmf_fast/_native.pyi"} <= built
    assert built == package_files()


@pytest.mark.slow
def test_a_repaired_wheel_runs_without_a_compiler_and_holds_nothing_of_torch(tmp_path: Path) -> None:
    subprocess.run(["make", "wheel", f"DIST={tmp_path}"], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*-manylinux_*.whl")
    with zipfile.ZipFile(wheel) as packed:
        files = {entry.filename for entry in packed.infolist() if not entry.is_dir()}
    held = {name for name in files if ".dist-info/" not in name}
    libraries = {name for name in held if ".so" in name}
    assert held - libraries == package_files()
    assert {name.split(".")[0] for name in libraries} == {"dmf_fast/_native", "dmf_fast/libdmf_fast_cpu"}
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", installed, wheel], check=True)
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(installed)}
    check = [sys.executable, "-P", ROOT / "tests" / "check_wheel.py"]
    subprocess.run(check, cwd=tmp_path, env=environment, check=True)
