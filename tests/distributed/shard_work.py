"""The work of a process on its rows after training, the same for any number of processes, and ratings."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmf_fast import DeepMatrixFactorization
from dmf_fast.cli.measuring import fitted_biases, measure
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
from dmf_fast.training.errors import mean_squared_error, mean_squared_error_without_factors

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
    errors: list[float]
    growth: float = 0.0
    failure: str = ""


def numbers(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(len(shape) + shape[-1]).normal(size=shape))


def shard_of(observed: RowBlocks, rows: Tensor) -> Tensor:
    """Return the part of this process of something with a number for each row."""
    first, here = observed.first_block * observed.rows_a_block, sum(p.shape[0] for p in observed.parts)
    return rows[first : first + here].clone()


def model_of_shards(observed: RowBlocks, depth: int) -> DeepMatrixFactorization:
    """Return a model of all rows, of which each process has its own, the same in any number of hands.

    At depth 2 each has some columns of the first factor, as of a large one.
    """
    sharding, (rows, columns) = observed.sharding, observed.shape
    of_columns = sharding.sharded_by_columns if depth == 2 else sharding.replicated
    inner = [sharding.replicated(numbers(WIDTH, WIDTH)) for _ in range(depth - 2)]
    last = sharding.sharded(shard_of(observed, numbers(rows, WIDTH)))
    model = DeepMatrixFactorization.of_factors([of_columns(numbers(WIDTH, columns)), *inner, last])
    model.row_bias = torch.nn.Parameter(sharding.sharded(shard_of(observed, numbers(rows))))
    model.column_bias = torch.nn.Parameter(of_columns(numbers(columns)[None])[0])
    model.mean.fill_(3.25)
    return model


def biases_of(rows: Tensor) -> Biases:
    return Biases(3.5, rows.numpy() / 7, numbers(COLUMNS).numpy() / 7, Shrinkage())


def predict_some(rows: Any, columns: Any) -> Any:
    """Predict by column, and nothing where it is unknown or one of four."""
    return np.where((columns >= 0) & (columns % 6 > 0), columns / 8, np.nan)


def errors_of(predictors: list[Predictor], observed: Observations) -> list[float]:
    """Return the errors of the models, with and without factors, in their dtype and that of the entries."""
    return [
        error(predictor.model, entries)
        for predictor in predictors
        for entries in (observed, observed.to(dtype=torch.float64))
        for error in (mean_squared_error, mean_squared_error_without_factors)
    ]


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
        errors_of(predictors, observed),
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


def write_ratings(folder: Path) -> None:
    """Ratings as blocks of which some lack a row, ratings to measure on, and blocks of many rows."""
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
