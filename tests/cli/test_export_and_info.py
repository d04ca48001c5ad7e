"""``dmf-fast export`` and ``info``: what a trained folder holds, for other software and for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import load_file

Run = Callable[..., Result]


def test_an_export_predicts_what_the_model_predicts(dmf_fast: Run, trained: Path, tmp_path: Path) -> None:
    result = dmf_fast("export", trained, tmp_path / "model.npz")

    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "model.npz") as file:
        arrays = dict(file)
    tensors = load_file(trained / "model-depth-2.safetensors")
    np.testing.assert_allclose(
        arrays["row_factors"] @ arrays["column_factors"].T,
        tensors["factors.1"] @ tensors["factors.0"],
        rtol=1e-5,
        atol=1e-6,
    )
    assert arrays["row_ids"].tolist() == list(range(100, 130))


@pytest.mark.parametrize("name", ["model.safetensors", "model.parquet"])
def test_an_export_of_a_rank_has_that_width(dmf_fast: Run, trained: Path, tmp_path: Path, name: str) -> None:
    result = dmf_fast("export", trained, tmp_path / name, "--rank", "2")

    assert result.exit_code == 0, result.stderr
    assert "30 rows, 20 columns, 2 numbers each" in result.stdout
    assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("model.csv", [], ".npz or .safetensors or .parquet"),
        ("there.npz", [], "--overwrite"),
        ("nowhere/model.npz", [], "does not exist"),
        ("model.npz", ["--rank", "21"], "`rank` must be at most 20"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    dmf_fast: Run, trained: Path, tmp_path: Path, name: str, options: list[str], word: str
) -> None:
    (tmp_path / "there.npz").write_text("precious")

    refused = dmf_fast("export", trained, tmp_path / name, *options)

    assert refused.exit_code == 2
    assert word in refused.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_info_shows_versions_or_the_card_of_a_folder(dmf_fast: Run, trained: Path) -> None:
    assert "instruction set" in dmf_fast("info").stdout

    card = dmf_fast("info", trained).stdout

    assert card == (trained / "README.md").read_text()
    for line in ("| rows | 30 |", "| entries | 300 |", "| depth | 2 |", "| biases |"):
        assert line in card


def test_the_commands_of_the_card_are_those_of_the_folder(trained: Path) -> None:
    assert f"dmf-fast predict {trained} pairs.csv" in (trained / "README.md").read_text()


def test_info_of_something_else_is_refused(dmf_fast: Run, tmp_path: Path) -> None:
    refused = dmf_fast("info", tmp_path)

    assert refused.exit_code == 2
    assert "is not a folder written by dmf-fast complete" in refused.stderr
