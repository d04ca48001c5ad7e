"""``dmf-fast recommend``: the best items that the user has not rated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import Result

from dmf_fast.data import IdMap, read_ratings

Run = Callable[..., Result]


def scores_of_unseen(folder: Path, ratings: Path, user: int) -> dict[str, float]:
    """Return the unclipped prediction of every film that the user has not rated."""
    tensors = load_file(folder / "model-depth-2.safetensors")
    scores = tensors["factors.1"][user - 100].astype(float) @ tensors["factors.0"] + tensors["column_bias"]
    table = read_ratings(ratings)
    films = IdMap.load(folder / "column_ids.parquet").ids.to_pylist()
    of_user = table.columns[table.row_ids.ids_at(table.rows).to_numpy() == user]
    seen = set(table.column_ids.ids_at(of_user).to_pylist())
    return {film: score for film, score in zip(films, scores, strict=True) if film not in seen}


@pytest.mark.parametrize("user", [100, 117, 129])
def test_the_best_unseen_items_come_first(
    dmf_fast: Run, trained: Path, ratings_file: Path, user: int
) -> None:
    scores = scores_of_unseen(trained, ratings_file, user)

    result = dmf_fast("recommend", trained, user, "--count", "5", "--json")

    assert result.exit_code == 0, result.stderr
    recommendations = json.loads(result.stdout)["recommendations"]
    assert [one["column"] for one in recommendations] == sorted(scores, key=lambda film: -scores[film])[:5]


def test_predictions_shown_lie_in_the_range_of_the_ratings(
    dmf_fast: Run, trained: Path, ratings_file: Path
) -> None:
    values = read_ratings(ratings_file).values

    result = dmf_fast("recommend", trained, 101, "--json")

    shown = np.array([one["prediction"] for one in json.loads(result.stdout)["recommendations"]])
    assert ((values.min() <= shown) & (shown <= values.max())).all()


def test_asking_for_more_than_there_is_gives_all_that_is_unseen(
    dmf_fast: Run, trained: Path, ratings_file: Path
) -> None:
    result = dmf_fast("recommend", trained, 110, "--count", "1000", "--json")

    columns = [one["column"] for one in json.loads(result.stdout)["recommendations"]]
    assert set(columns) == set(scores_of_unseen(trained, ratings_file, 110))


def test_a_person_sees_a_table(dmf_fast: Run, trained: Path) -> None:
    result = dmf_fast("recommend", trained, 110, "--count", "3")

    assert result.exit_code == 0
    assert result.stdout.count("film") == 3


@pytest.mark.parametrize("user", ["999", "nobody", "0110", ""])
def test_a_user_that_is_not_there_is_named(dmf_fast: Run, trained: Path, user: str) -> None:
    result = dmf_fast("recommend", trained, user)

    assert result.exit_code == 2
    assert repr(user) in result.stderr
    assert result.stdout == ""
