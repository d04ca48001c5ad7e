"""Problems that users of other libraries reported do not occur here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow.parquet as pq
import pytest

from dmf_fast.cli.progress import spoken_progress
from dmf_fast.data import IdMap
from dmf_fast.training import Progress
from tests.cli.runs import QUICK, Run, json_of


def test_progress_is_shown_for_long_jobs_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    speak = spoken_progress(10_000, "depth 2", every=30.0, clock=lambda: now)
    for step in range(0, 7_201, 10):
        now = step * 10.0  # twenty hours
        row = {"train_loss": 0.5, "validation_rmse": 0.9}
        speak(cast(Progress, SimpleNamespace(step=step, row=row)))

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 720
    assert lines[-1] == (
        "depth 2: step 7,200 of at most 10,000, 0.1 steps/s, at most 7 h 46 min left, train loss 0.5, "
        "validation RMSE 0.9000"
    )


def test_progress_restarts_with_the_run_on_all_ratings(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    speak = spoken_progress(100, "depth 2", every=10.0, clock=lambda: now)
    for second, step in enumerate([0, 50, 100, 0, 20, 40]):
        now = 10.0 * second
        speak(cast(Progress, SimpleNamespace(step=step, row={"train_loss": 0.5, "validation_rmse": None})))

    rates = [line.split(", ")[1] for line in capsys.readouterr().err.splitlines()]
    assert rates == ["5 steps/s", "5 steps/s", "2 steps/s", "2 steps/s"]


def test_a_log_file_says_what_is_trained_and_how_long_it_took(dmf_fast: Run, ratings_file: Path) -> None:
    loud, quiet = dmf_fast("complete", ratings_file, *QUICK[:-1]), dmf_fast("complete", ratings_file, *QUICK)

    first, *_, last = loud.stderr.splitlines()  # between them, progress of a slow machine
    assert first.startswith(f"{ratings_file}: 30 rows, 20 columns, 300 entries from 1 to 5, ")
    assert "from 1 to 5, 15 in each of 10 folds for validation; 0 bad " in first
    assert last.startswith("Trained in ")
    assert quiet.stderr == ""


def test_clicks_in_place_of_ratings_are_named(dmf_fast: Run, tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.csv"
    lines = [f"{user},{item},1" for user in range(30) for item in range(user % 3, 20)]
    clicks.write_text("\n".join(["user,item,rating", *lines]) + "\n")

    said = dmf_fast("complete", clicks, *QUICK[:-1]).stderr

    assert "All ratings are 1: there is nothing to learn from them." in said
    assert "--weight-decay" not in said


def test_cold_start_ids_give_no_nan_metrics(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    test.write_text("user,item,rating\n999,film 4,1\n100,no film,2\n999,no film,5\n100,film 1,3\n")

    found = json_of(dmf_fast("complete", ratings_file, "--test", test, "--top-k", 3, "--json", *QUICK))

    (run,) = found["runs"]
    assert found["data"]["test_entries_with_unknown_ids"] == 3
    groups = run["evaluation"]["model"]["by_group"]
    assert {name: group["count"] for name, group in groups.items()} == {
        "both known": 1, "new column": 1, "new row": 1, "both new": 1,
    }  # fmt: skip
    numbers = [run["test_rmse"], run["test_mae"], *(group["rmse"] for group in groups.values())]
    numbers += [line["test_rmse"] for line in (found["baselines"]["mean"], found["baselines"]["biases"])]
    assert all(math.isfinite(number) for number in numbers)
    assert "NaN" not in json.dumps(found)


def test_zero_valued_ratings_are_ratings(dmf_fast: Run, tmp_path: Path) -> None:
    lines = [f"{row},{column},{value}" for row in range(8) for column in range(6) for value in [row % 2]]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"

    found = json_of(dmf_fast("complete", tmp_path / "ratings.csv", "--json", "--out", out, *QUICK))

    assert found["data"]["entries"] == 48
    (tmp_path / "pairs.csv").write_text("0,0\n1,1\n")
    assert dmf_fast("predict", out, tmp_path / "pairs.csv", "--out", tmp_path / "p.parquet").exit_code == 0
    low, high = pq.read_table(tmp_path / "p.parquet")["prediction"].to_numpy()
    assert 0 <= low < 0.3 < 0.7 < high <= 1


def test_ids_that_are_not_contiguous_make_no_phantom_rows(dmf_fast: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ids = [7, 1_000, 5_000_000_000, -3]
    lines = [f"{row},{column},{random.integers(1, 6)}" for row in ids for column in (2, 10**12)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"

    found = json_of(dmf_fast("complete", tmp_path / "ratings.csv", "--json", "--out", out, *QUICK))

    assert (found["data"]["rows"], found["data"]["columns"]) == (4, 2)
    assert IdMap.load(out / "row_ids.parquet").ids.to_pylist() == sorted(ids)


def test_bad_rows_are_counted_and_the_first_ten_shown(dmf_fast: Run, tmp_path: Path) -> None:
    lines = [f"{row},{column},{row % 5}" for row in range(20) for column in range(6)]
    for place in range(3, 63, 5):
        lines[place] = "7,7,much"
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("\n".join(lines) + "\n")

    lenient = dmf_fast("complete", ratings, "--json", *QUICK)
    strict = dmf_fast("complete", ratings, "--strict", *QUICK)

    assert json_of(lenient)["data"]["bad_rows"] == 12
    assert "12 bad rows were skipped, the first 10 of them" in lenient.stderr
    assert lenient.stderr.count("much") == 10
    assert "line 4:" in lenient.stderr
    assert strict.exit_code == 2
    assert "line 4:" in strict.stderr


def test_baselines_are_listed_with_the_model(dmf_fast: Run, ratings_file: Path) -> None:
    result = dmf_fast("complete", ratings_file, *QUICK)

    assert [line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line] == [
        "depth 2", "mean", "biases",
    ]  # fmt: skip
