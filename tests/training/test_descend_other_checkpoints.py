"""Checkpoints that descend refuses to go on from, or to write over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.training import DescentOptions, GradientDescent, Recording, descend
from tests.problems import make_problem
from tests.training.descents import RULES, assert_equal, start
from tests.training.test_descend_checkpoints import DIMS, RECORDING, TRAIN, VALIDATION, assert_same, run


def changed_value(observations: Observations) -> Observations:
    values = observations.values.clone()
    values[3] += 1e-6
    return observations.with_values(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rule": RULES["adam"]}, "rule.rule was GradientDescent there and is Adam here"),
        ({"rule": replace(RULES["momentum"], lr=0.03)}, "rule.lr was 0.02 there and is 0.03 here"),
        ({"rule": replace(RULES["momentum"], weight_decay=0.5)}, "rule.weight_decay was 0.0"),
        (
            {"dims": (9, 6, 5, 8)},
            r"factors\[1\] was torch.float64 \(4, 6\) there and is torch.float64 \(5, 6\)",
        ),
        ({"dims": DIMS[:2] + DIMS[3:]}, r"factors\[1\] was .* \(4, 6\) there and is .* \(8, 6\) here"),
        ({"dims": (9, 6, 4, 8, 8)}, r"factors\[3\] was None there"),
        ({"dtype": torch.float32}, r"factors\[0\] was torch.float64 .* is torch.float32"),
        ({"train": changed_value(TRAIN)}, "train was"),
        ({"train": TRAIN.with_values(TRAIN.values)}, "train was"),
        ({"validation": changed_value(VALIDATION)}, "validation was"),
        ({"validation": None}, "validation was .* and is None here"),
        ({"test": VALIDATION}, "test was None there"),
        ({"recording": replace(RECORDING, every=5)}, "recording.every was 10 there and is 5 here"),
        ({"recording": Recording(singular_values=2)}, "recording.every was 10 there and is None here"),
        ({"recording": replace(RECORDING, singular_values=1)}, "recording.singular_values was 2"),
        ({"recording": replace(RECORDING, spectrum=True)}, "recording.spectrum was False"),
        ({"reduction": "sum"}, "options.reduction was mean there and is sum here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    run(20, tmp_path)
    with pytest.raises(ValueError, match=f"belongs to another run: {words}"):
        run(60, tmp_path, resume=True, **change)
    assert_same(run(60, tmp_path, resume=True), run(60))


def test_a_refused_resume_leaves_the_factors_alone(tmp_path: Path) -> None:
    run(20, tmp_path)
    factors = start(make_problem(DIMS, seed=1))
    with pytest.raises(ValueError, match="belongs to another run"):
        descend(factors, TRAIN, RULES["adam"], checkpoint=tmp_path, resume=True)
    assert_equal(factors, start(make_problem(DIMS, seed=1)))


def test_a_run_is_not_written_over_without_resume(tmp_path: Path) -> None:
    run(20, tmp_path)
    with pytest.raises(ValueError, match="holds a checkpoint already"):
        run(60, tmp_path)
    assert_same(run(60, tmp_path, resume=True), run(60))


def test_a_file_is_not_a_checkpoint_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder"):
        run(20, tmp_path / "file")


def test_a_checkpoint_of_a_run_with_another_truth_is_refused(tmp_path: Path) -> None:
    factors = [torch.eye(2, dtype=torch.float64)]
    train = Observations([0, 1], [0, 1], [2.0, 3.0], (2, 2), dtype=torch.float64)
    options, truth = DescentOptions(steps=3), torch.ones(2, 2, dtype=torch.float64)
    descend(factors, train, GradientDescent(0.1), options, truth=truth, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="truth was"):
        descend(
            factors, train, GradientDescent(0.1), options, truth=2 * truth, checkpoint=tmp_path, resume=True
        )
