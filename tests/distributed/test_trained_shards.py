"""Rows shared by several processes: the folder, the held-out ratings, and the measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from dmf_fast import DeepMatrixFactorization
from dmf_fast.cli.baseline import save_biases
from dmf_fast.cli.measuring import fitted_biases, measure
from dmf_fast.cli.problem import held_out
from dmf_fast.data import Ratings, ReadOptions, read_ratings
from dmf_fast.distributed import RowBlocks
from dmf_fast.distributed.row_ids import RowIds
from dmf_fast.distributed.trained_shards import fill_trained_folder_of_shards
from dmf_fast.evaluation import Biases, evaluate
from dmf_fast.observations import Observations
from dmf_fast.serving import Predictor, SeenColumns, collapse, recommend
from dmf_fast.serving.trained_folder import fill_trained_folder
from tests.distributed.processes import run_processes
from tests.distributed.shard_work import (
    BLOCKS,
    FACTS,
    NO_BIASES,
    ROWS,
    TEXT_IDS,
    Shard,
    biases_of,
    errors_of,
    model_of_shards,
    numbers,
    predict_some,
    read_test,
    strangers_of,
    work,
    write_ratings,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ratings as blocks, ratings to measure on, and blocks of many rows."""
    folder = tmp_path_factory.mktemp("shards")
    write_ratings(folder)
    return folder


@pytest.fixture(scope="module")
def in_two(folder: Path) -> list[Shard]:
    return run_processes(2, work, folder, "of-two")


@pytest.fixture(scope="module")
def in_one(folder: Path) -> list[Shard]:
    return [work(None, folder, "of-one")]


@pytest.fixture(params=["of-two", "of-one"])
def shards(request: pytest.FixtureRequest, in_two: list[Shard], in_one: list[Shard]) -> list[Shard]:
    return in_two if request.param == "of-two" else in_one


class Whole(NamedTuple):
    """The same numbers in one matrix, whose rows are sorted by their ids."""

    observed: Observations
    ratings: Ratings
    predictors: list[Predictor]
    biases: Biases
    seen: SeenColumns


@pytest.fixture(scope="module")
def whole(folder: Path) -> Whole:
    ratings = read_ratings(folder / "ratings.csv", ReadOptions(text_ids=TEXT_IDS))
    dealt = RowBlocks.open(folder / "blocks")
    places = RowIds.read(folder / "blocks", range(BLOCKS), dealt.rows_a_block).rows
    assert len(places) == ROWS < dealt.shape[0]
    predictors = []
    for depth in (3, 2):
        padded = model_of_shards(dealt, depth)
        *inner, last = (factor.detach() for factor in padded.factors)
        model = DeepMatrixFactorization.of_factors([*inner, last[places]], bias=True)
        assert padded.row_bias is not None
        assert padded.column_bias is not None
        model.row_bias = torch.nn.Parameter(padded.row_bias.detach()[places])
        model.column_bias = torch.nn.Parameter(padded.column_bias.detach())
        model.mean.copy_(padded.mean)
        predictors.append(Predictor(model, *FACTS, clip=True))
    observed = ratings.observations()
    biases = biases_of(numbers(dealt.shape[0])[places])
    return Whole(observed, ratings, predictors, biases, SeenColumns.of(observed))


@pytest.mark.parametrize("target", ["of-two", "of-one"])
def test_the_folder_of_shards_is_that_of_the_whole_byte_for_byte(
    folder: Path, whole: Whole, in_two: list[Shard], in_one: list[Shard], target: str, tmp_path: Path
) -> None:
    ids = whole.ratings.row_ids, whole.ratings.column_ids
    fill_trained_folder(tmp_path, whole.predictors, *ids, whole.seen)
    save_biases(whole.biases, tmp_path)

    expected = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(expected) == 7
    assert {path.name: path.read_bytes() for path in (folder / target).iterdir()} == expected


def test_small_chunks_and_several_parts_make_the_same_folder(
    folder: Path, in_one: list[Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmf_fast.distributed.trained_shards._CHUNK_BYTES", 100)
    monkeypatch.setattr("dmf_fast.distributed.row_blocks.LEAST_ENTRIES_PER_COLUMN", 0)
    observed = RowBlocks.open(folder / "blocks", reproducible=True)
    assert len(observed.parts) == BLOCKS
    predictors = [Predictor(model_of_shards(observed, depth), *FACTS, clip=True) for depth in (3, 2)]
    biases = biases_of(numbers(observed.shape[0]))
    fill_trained_folder_of_shards(tmp_path, predictors, observed, folder / "blocks", biases)

    expected = {path.name: path.read_bytes() for path in (folder / "of-one").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected


def test_process_0_never_has_all_rows(folder: Path, in_two: list[Shard]) -> None:
    assert (folder / "of-large" / "model-depth-2.safetensors").stat().st_size > 200e6
    assert in_two[0].growth < 80  # it has half of them already


def test_all_processes_raise_what_keeps_process_0_from_writing(in_two: list[Shard]) -> None:
    assert [one.failure for one in in_two] == ["NotADirectoryError"] * 2


def test_each_test_rating_is_in_one_process_and_unknown_rows_in_the_first(
    folder: Path, whole: Whole, shards: list[Shard]
) -> None:
    ratings = read_test(folder)
    mapped = ratings.mapped_to(whole.ratings.row_ids, whole.ratings.column_ids)
    assert all(one.known == mapped.known.tolist() for one in shards)

    values = np.concatenate([one.test.values for one in shards])
    assert sorted(values.tolist()) == sorted(ratings.values.astype(np.float64).tolist())
    assert [int((one.test.rows < 0).sum()) for one in shards] == [3, *[0] * (len(shards) - 1)]
    known = sorted(mapped.values[mapped.known].tolist())
    assert all(count == len(known) for count, _ in (one.test_blocks for one in shards))
    assert sorted(value for one in shards for value in one.test_blocks[1]) == known


def test_shards_are_recommended_what_the_whole_is(whole: Whole, shards: list[Shard]) -> None:
    two_factors = collapse(whole.predictors[0].model)
    best = recommend(two_factors, np.arange(ROWS), 3, seen=whole.seen).columns.tolist()
    found = {key: columns for one in shards for key, columns in one.recommended.items()}
    assert found == dict(zip(whole.ratings.row_ids.ids.to_pylist(), best, strict=True))


def test_shards_measure_what_the_whole_does(folder: Path, whole: Whole, shards: list[Shard]) -> None:
    mapped = read_test(folder).mapped_to(whole.ratings.row_ids, whole.ratings.column_ids)
    test = held_out(mapped)
    two_factors = collapse(whole.predictors[0].model)
    arguments = whole.predictors[0], two_factors, whole.seen, whole.biases, test
    expected = measure(*arguments, top_k=3, relevant_from=3.0).as_dict()

    assert expected["ranking"]["model"]["rows"] > 0
    assert expected["ranking"]["most_popular"]["recall"] > 0
    partly = evaluate(predict_some, whole.seen, test, {"biases": whole.biases}).as_dict()
    assert partly["model"]["without_prediction"] > 0
    assert len(partly["model"]["calibration_by_value"]) == 6
    strangers = evaluate(predict_some, whole.seen, strangers_of(test), {"biases": whole.biases})
    for one in shards:
        assert_alike(one.evaluation.as_dict(), expected)
        assert_alike(one.strangers.as_dict(), strangers.as_dict())
        assert_alike(one.partly.as_dict(), partly)


def test_the_biases_of_shards_are_those_of_the_whole(folder: Path, whole: Whole, shards: list[Shard]) -> None:
    mapped = read_test(folder).mapped_to(whole.ratings.row_ids, whole.ratings.column_ids)
    validation = mapped.select(mapped.known).observations()
    expected, rmses = fitted_biases([(whole.observed, validation)], whole.observed, NO_BIASES)

    rows = dict(zip(whole.ratings.row_ids.ids.to_pylist(), expected.row_biases.tolist(), strict=True))
    for one in shards:
        assert one.rmses == pytest.approx(rmses, rel=1e-6)
        assert one.biases.shrinkage == expected.shrinkage
        assert one.biases.column_biases == pytest.approx(expected.column_biases, abs=1e-6)
        for key, place in one.rows.items():
            assert one.biases.row_biases[place] == pytest.approx(rows[key], abs=1e-6)


def test_the_errors_of_a_model_of_shards_are_those_of_the_whole(whole: Whole, shards: list[Shard]) -> None:
    expected = errors_of(whole.predictors, whole.observed)
    assert all(one.errors == pytest.approx(expected, rel=1e-6) for one in shards)


def assert_alike(found: Any, expected: Any) -> None:
    """Fail where two nested results differ by more than rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_alike(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
    else:
        assert found == expected
