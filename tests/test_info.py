"""Version, build and environment as reported by the package."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import dmf_fast
from dmf_fast import cuda, info


def test_the_report_names_versions_instruction_set_threads_and_why_there_is_no_cuda() -> None:
    done = subprocess.run([sys.executable, "-m", "dmf_fast.info"], capture_output=True, text=True, check=True)
    for expected in (dmf_fast.__version__, "torch", info.available_instruction_sets()[-1], "threads", "CUDA"):
        assert expected in done.stdout
    assert cuda.missing_reason() is None or f"no kernels: {cuda.missing_reason()}" in done.stdout


def test_the_report_names_the_extras_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("yaml", "optuna"):
        monkeypatch.setitem(sys.modules, package, None)
    (line,) = [line for line in info.report().splitlines() if line.startswith("extras")]
    installed, _, missing = line.partition(" (not installed: ")
    assert {"cli", "tune"} <= set(missing.rstrip(")").split(", "))
    assert not {"cli", "tune"} & set(installed.split()[1:])


@pytest.mark.parametrize("name", info.available_instruction_sets())
def test_the_environment_variable_chooses_the_instruction_set(name: str) -> None:
    assert _active_with(name) == name


def test_an_instruction_set_that_is_not_there_is_refused_when_kernels_are_loaded() -> None:
    environment = {**os.environ, "DMF_FAST_INSTRUCTION_SET": "mmx"}
    done = subprocess.run(
        [sys.executable, "-c", "from dmf_fast import completion_loss"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "DMF_FAST_INSTRUCTION_SET is 'mmx', which is not available here; unset it" in done.stderr


def test_setting_an_unknown_instruction_set_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'mmx' is not available here; choose one of: generic"):
        info.set_instruction_set("mmx")


def _active_with(name: str) -> str:
    environment = {**os.environ, "DMF_FAST_INSTRUCTION_SET": name}
    code = "from dmf_fast import info; print(info.active_instruction_set())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
