"""Rows in the hands of several processes: the folder, the ratings to measure on, and what is measured."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import DeepMatrixFactorization
from dmf_fast.cli.baseline import save_biases
from dmf_fast.cli.measuring import fitted_biases, measure
from dmf_fast.cli.problem import held_out
from dmf_fast.data import IdMap, Ratings, ReadOptions, read_ratings
from dmf_fast.data.block_files import COLUMN_IDS
from dmf_fast.data.blocks import prepare_blocks
from dmf_fast.distributed import RowBlocks
from dmf_fast.distributed.evaluation import local_predictor
from dmf_fast.distributed.held_out_shards import HeldOutShards
from dmf_fast.distributed.row_ids import RowIds
from dmf_fast.distributed.trained_shards import fill_trained_folder_of_shards
from dmf_fast.evaluation import Biases, Evaluation, HeldOut, Shrinkage, evaluate
from dmf_fast.observations import Observations
from dmf_fast.serving import Predictor, SeenColumns, collapse, recommend
from dmf_fast.serving.trained_folder import fill_trained_folder
from tests.distributed.processes import run_processes

BLOCKS, ROWS, COLUMNS, WIDTH = 4, 61, 24, 5
FACTS = 3.5, 1.0, 5.0  # of every predictor: training mean, lowest, highest
LARGE_ROWS, LARGE_WIDTH = 50_000, 512
TEXT_IDS = True, False
NO_BIASES: Any = SimpleNamespace(biases=None)  # what was trained has none of its own


class Shard(NamedTuple):
    """What a process found."""

    test: HeldOut
    test_blocks: tuple[int, list[float]]
    known: list[bool]
    evaluation: Evaluation
    recommended: dict[str, list[int]]
    partly: Evaluation
    strangers: Evaluation
    biases: Biases
    rmses: dict[str, float | None]
    rows: dict[str, int]
    growth: float = 0.0
    failure: str = ""


def numbers(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(len(shape) + shape[-1]).normal(size=shape))


def shard_of(observed: RowBlocks, rows: Tensor) -> Tensor:
    """Return the part of this process of something with a number for each row."""
    first, here = observed.first_block * observed.rows_a_block, sum(p.shape[0] for p in observed.parts)
    return rows[first : first + here].clone()


def model_of_shards(observed: RowBlocks, depth: int) -> DeepMatrixFactorization:
    """Return a model of all rows, of which each process has its own, the same in any number of hands."""
    sharding, (rows, columns) = observed.sharding, observed.shape
    inner = [numbers(WIDTH, columns), *(numbers(WIDTH, WIDTH) for _ in range(depth - 2))]
    last = shard_of(observed, numbers(rows, WIDTH))
    model = DeepMatrixFactorization.of_factors([*map(sharding.replicated, inner), sharding.sharded(last)])
    model.row_bias = torch.nn.Parameter(sharding.sharded(shard_of(observed, numbers(rows))))
    model.column_bias = torch.nn.Parameter(sharding.replicated(numbers(columns)))
    model.mean.fill_(3.25)
    return model


def biases_of(rows: Tensor) -> Biases:
    return Biases(3.5, rows.numpy() / 7, numbers(COLUMNS).numpy() / 7, Shrinkage())


def predict_some(rows: Any, columns: Any) -> Any:
    """Predict by column, and nothing where it is unknown or one of four."""
    return np.where((columns >= 0) & (columns % 6 > 0), columns / 8, np.nan)


def strangers_of(test: HeldOut) -> HeldOut:
    """Return the ratings of unknown rows, which process 0 has."""
    unknown = test.rows < 0
    return HeldOut(test.rows[unknown], test.columns[unknown], test.values[unknown])


def read_test(folder: Path) -> Ratings:
    return read_ratings(folder / "test.csv", ReadOptions(text_ids=TEXT_IDS))


def parts_of(mesh: Any, folder: Path) -> tuple[RowBlocks, RowIds, IdMap]:
    observed = RowBlocks.open(folder / "blocks", mesh)
    return observed, RowIds.of(observed, folder / "blocks"), IdMap.load(folder / "blocks" / COLUMN_IDS)


def work(mesh: Any, folder: Path, target: str) -> Shard:
    """Write the folder, map the test ratings, measure and recommend: what a job does after its training."""
    is_first = mesh is None or mesh.get_local_rank() == 0
    observed, row_ids, column_ids = parts_of(mesh, folder)
    predictors = [Predictor(model_of_shards(observed, depth), *FACTS, clip=True) for depth in (3, 2)]
    biases = biases_of(shard_of(observed, numbers(observed.shape[0])))
    if is_first:
        (folder / target).mkdir()
    arguments = predictors, observed, folder / "blocks", biases
    fill_trained_folder_of_shards(folder / target if is_first else None, *arguments)

    shards = HeldOutShards.of(read_test(folder), observed, row_ids, column_ids)
    local, seen, test = local_predictor(predictors[0]), SeenColumns.of(observed), shards.held_out()
    two_factors, sharding = collapse(local.model), observed.sharding
    measured = measure(local, two_factors, seen, biases, test, top_k=3, relevant_from=3.0, sharding=sharding)
    rows = row_ids.rows
    best = recommend(two_factors, rows, 3, seen=seen).columns.tolist()
    blocks = shards.row_blocks("mean")
    values = [value for part in blocks.parts for value in part.values.tolist()]
    ids = row_ids.map.ids.to_pylist()
    shard = Shard(
        test,
        (len(blocks), values),
        shards.known.tolist(),
        measured,
        dict(zip(ids, best, strict=True)),
        evaluate(predict_some, seen, test, {"biases": biases}, sharding=sharding),
        evaluate(predict_some, seen, strangers_of(test), {"biases": biases}, sharding=sharding),
        *fitted_biases([(observed, blocks)], observed, NO_BIASES),
        dict(zip(ids, rows.tolist(), strict=True)),
    )
    if mesh is None:
        return shard
    growth, failure = growth_of_writing(mesh, folder), failure_of_writing(mesh, folder, arguments)
    return shard._replace(growth=growth, failure=failure)


def failure_of_writing(mesh: Any, folder: Path, arguments: Any) -> str:
    """Return what all processes raise where the folder of process 0 is a file."""
    try:
        fill_trained_folder_of_shards(
            folder / "ratings.csv" if mesh.get_local_rank() == 0 else None, *arguments
        )
    except OSError as error:
        return type(error).__name__
    return ""


def growth_of_writing(mesh: Any, folder: Path) -> float:
    """Return by how many MB this process grows while 200 MB of rows, its own among them, are written."""
    observed = RowBlocks.open(folder / "large", mesh)
    sharding, rows = observed.sharding, sum(part.shape[0] for part in observed.parts)
    factors = [
        sharding.replicated(torch.ones(LARGE_WIDTH, observed.shape[1], dtype=torch.float64)),
        sharding.sharded(torch.ones(rows, LARGE_WIDTH, dtype=torch.float64)),
    ]
    predictor = Predictor(DeepMatrixFactorization.of_factors(factors), *FACTS, clip=True)
    biases = Biases(0.0, np.zeros(rows), np.zeros(observed.shape[1]), Shrinkage())
    target = folder / "of-large" if sharding.rank == 0 else None
    if target is not None:
        target.mkdir()
    with_peak = Peak()
    fill_trained_folder_of_shards(target, [predictor], observed, folder / "large", biases)
    return with_peak.growth()


class Peak:
    """Looks every 2 ms how much memory this process has."""

    def __init__(self) -> None:
        self._before = self._most = resident()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._is_over.wait(0.002):
            self._most = max(self._most, resident())

    def growth(self) -> float:
        self._is_over.set()
        self._thread.join()
        return (self._most - self._before) / 1e6


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ratings as blocks of which some lack a row, ratings to measure on, and blocks of many rows."""
    folder = tmp_path_factory.mktemp("shards")
    random = np.random.default_rng(0)
    # Every row has an entry, column 22 has the most, and column 23 that of a row alone.
    observed = {(i, i % 23) for i in range(ROWS)} | {(i, 22) for i in range(0, ROWS, 2)} | {(7, 23)}
    observed |= {(int(i), int(j)) for i, j in random.integers((0, 0), (ROWS, 23), (400, 2))}
    stars = dict(zip(sorted(observed), random.integers(1, 6, len(observed)).tolist(), strict=True))
    lines = [f"u{(37 * i) % ROWS},{100 - j},{stars[i, j]}" for i, j in sorted(observed)]
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    free = [(i, j) for i in range(ROWS) for j in range(COLUMNS) if (i, j) not in observed]
    chosen = [free[k] for k in random.permutation(len(free))[:200]]
    lines = [f"u{i},{100 - j},{random.integers(1, 6)}" for i, j in chosen]
    lines += ["new,100,4", "new,999,2", "u5,999,3", "another,98,4.75"]  # a value of process 0 alone
    (folder / "test.csv").write_text("\n".join(lines) + "\n")
    prepare_blocks(folder / "ratings.csv", folder / "blocks", BLOCKS)
    lines = [f"{i},{i % 20},{1 + i % 5}" for i in range(LARGE_ROWS)]
    (folder / "large.csv").write_text("\n".join(lines) + "\n")
    prepare_blocks(folder / "large.csv", folder / "large", BLOCKS)
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
