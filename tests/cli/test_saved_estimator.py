"""The commands on a folder of `MatrixCompleter.save`, which holds less than one of ``dmf-fast complete``."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmf_fast import MatrixCompleter
from dmf_fast.data import read_ratings
from tests.cli.runs import Run, json_of


@pytest.fixture(scope="module", params=[True, False], ids=["ratings kept", "ratings not kept"])
def saved(
    request: pytest.FixtureRequest, ratings_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bool]:
    """A folder, and whether it holds the ratings; tests only read it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    ratings = read_ratings(ratings_file)
    X = list(
        zip(
            ratings.row_ids.ids_at(ratings.rows).to_pylist(),
            ratings.column_ids.ids_at(ratings.columns).to_pylist(),
            strict=True,
        )
    )
    completer = MatrixCompleter(depth=2, hidden=4, steps=60, keep_ratings=request.param, device="cpu")
    completer.fit(X, ratings.values).save(folder)
    return folder, request.param


def test_info_says_what_is_known(dmf_fast: Run, saved: tuple[Path, bool]) -> None:
    folder, kept = saved
    trained_on = "300 ratings" if kept else "ratings that were not kept"

    shown = " ".join(dmf_fast("info", folder).stdout.split())

    assert f"A model of depth 2 for 30 rows (users) and 20 columns (items), trained on {trained_on}" in shown
    assert "no model card" in shown


def test_evaluate_compares_with_the_biases_of_the_ratings_that_are_kept_or_given(
    dmf_fast: Run, saved: tuple[Path, bool], ratings_file: Path
) -> None:
    folder, kept = saved
    command = ("evaluate", folder, ratings_file, "--json")
    given = json_of(dmf_fast(*command, "--ratings", ratings_file))

    assert given["model"]["by_group"]["both known"]["count"] == 300
    assert given["model"]["rmse"] < given["baselines"]["mean"]["rmse"]
    if kept:
        assert json_of(dmf_fast(*command)) == given
    else:
        refused = dmf_fast(*command)
        assert refused.exit_code == 2
        assert "stores neither ratings nor biases to compare with; pass" in refused.stderr
        assert "--ratings FILE" in refused.stderr


def test_report_says_what_the_folder_is(dmf_fast: Run, saved: tuple[Path, bool]) -> None:
    refused = dmf_fast("report", saved[0])

    assert refused.exit_code == 2
    assert "was written by MatrixCompleter.save" in refused.stderr
    assert "train with dmf-fast complete --out" in refused.stderr
