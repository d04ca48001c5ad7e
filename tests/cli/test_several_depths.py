"""Several depths in one folder: the one that validation entries prefer comes first and is the default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dmf_fast.serving.trained_folder import TrainedFolder
from tests.cli.runs import QUICK, Run, json_of


@pytest.mark.parametrize("asked", ["2,3", "3,2"])
def test_the_first_model_of_a_folder_is_the_one_with_the_least_validation_error(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, asked: str
) -> None:
    out = tmp_path / "out"
    runs = json_of(dmf_fast("complete", ratings_file, *QUICK, "--depth", asked, "--out", out, "--json"))[
        "runs"
    ]
    errors = {run["depth"]: run["validation_rmse"] for run in runs}
    assert errors[2] != errors[3]
    best_first = sorted(errors, key=lambda depth: errors[depth])
    assert json.loads((out / "trained.json").read_text())["depths"] == best_first
    assert len(TrainedFolder.open(out).predictor.model.factors) == best_first[0]
