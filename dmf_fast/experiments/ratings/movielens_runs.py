"""MovieLens 100K completed by deep factorization and by nuclear-norm regularization, on the same ratings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from dmf_fast.convex import ConvexOptions, nuclear_norm_path
from dmf_fast.experiments.page.section import Work
from dmf_fast.experiments.ratings.movielens_data import MovieLensSplit
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.files.text import json_text
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.optim import GroupRMSprop
from dmf_fast.spectrum import effective_rank
from dmf_fast.threads import one_thread
from dmf_fast.training import FitOptions, Recording, Trial


@dataclass(frozen=True)
class MovieLensGrid:
    """Factorizations of several depths from several seeds, and weights of the nuclear norm.

    The validation entries are ``validation_fraction`` of ``u1.base``; ``tolerance`` is the relative duality
    gap of the convex problems.
    """

    depths: tuple[int, ...] = (2, 3, 4)
    seeds: int = 5
    hidden: int = 100
    init_scale: float = 1e-2
    lr: float = 0.03
    steps: int = 3_000
    record_every: int = 50
    validation_fraction: float = 0.05
    regularizations: tuple[float, ...] = (60.0, 45.0, 35.0, 28.0, 23.0, 19.0, 16.0, 13.0)
    tolerance: float = 1e-3

    def dims(self, depth: int, shape: tuple[int, int]) -> tuple[int, ...]:
        """Return ``(d_0, …, d_N)`` for matrices of a shape."""
        return (shape[1], *[self.hidden] * (depth - 1), shape[0])


FULL = MovieLensGrid()
QUICK = MovieLensGrid(
    seeds=2,
    hidden=50,
    lr=0.1,
    steps=600,
    record_every=25,
    regularizations=(35.0, 28.0, 23.0, 19.0),
    tolerance=1e-2,
)


@dataclass(frozen=True)
class MovieLensResults:
    """The results.

    Attributes:
        histories: the recorded rows of all factorizations, with ``depth`` and ``seed``.
        best: the row of each run with the lowest validation error.
        path: one row per weight of the nuclear norm: ``regularization``, ``train_rmse``, ``validation_rmse``,
            ``test_rmse``, ``rank``, ``effective_rank``, ``nuclear_norm``, ``relative_gap``.
        work: the steps of all runs.

    """

    histories: pa.Table
    best: pa.Table
    path: pa.Table
    work: list[Work]

    @property
    def best_on_path(self) -> dict[str, float]:
        """The row of the path with the lowest validation error."""
        rows: list[dict[str, float]] = self.path.to_pylist()
        return min(rows, key=lambda row: row["validation_rmse"])


def run_movielens(grid: MovieLensGrid, split: MovieLensSplit, reproduction: Reproduction) -> MovieLensResults:
    """Run everything, or load earlier results.

    Raises `KeyboardInterrupt` after Ctrl-C; finished runs are kept.
    """
    ended = run_trials(list(_trials(grid, split)), reproduction, "movielens")
    histories = ended.history()
    best = pa.concat_tables(
        histories.filter(
            (pc.field("depth") == one.trial.labels["depth"])
            & (pc.field("seed") == one.trial.labels["seed"])
            & (pc.field("step") == one.result.best_step)
        )
        for one in ended.results
    )
    data = [part.digest() for part in (split.train, split.validation, split.test)]
    made_of = json_text([data, grid.regularizations, grid.tolerance])
    key = sha256(made_of.encode()).hexdigest()[:16]
    path = cached_table(reproduction.folder / "nuclear-norm" / f"{key}.parquet", lambda: _path(grid, split))
    return MovieLensResults(histories, best, path, work_of(ended.results))


def _trials(grid: MovieLensGrid, split: MovieLensSplit) -> Iterator[Trial]:
    # The longest runs first, so that all cores finish together.
    for depth, seed in product(sorted(grid.depths, reverse=True), range(grid.seeds)):
        yield Trial(
            {"depth": depth, "seed": seed},
            initialize("gaussian", grid.dims(depth, split.train.shape), grid.init_scale, seed=seed),
            split.train,
            partial(GroupRMSprop, lr=grid.lr),
            FitOptions(steps=grid.steps),
            Recording(every=grid.record_every, norms=False, spectrum=True),
            validation=split.validation,
            test=split.test,
        )


def _path(grid: MovieLensGrid, split: MovieLensSplit) -> pa.Table:
    # Truncated decompositions are the fastest here, as ranks stay near a hundred; threads slow down their
    # many small products.
    options = ConvexOptions(tolerance=grid.tolerance, thresholding="truncated")
    with one_thread():
        solutions = nuclear_norm_path(split.train, grid.regularizations, options)
    rows = []
    for weight, solution in zip(grid.regularizations, solutions, strict=True):
        matrix = solution.matrix.dense()
        rows.append(
            {
                "regularization": weight,
                "train_rmse": _rmse(matrix, split.train),
                "validation_rmse": _rmse(matrix, split.validation),
                "test_rmse": _rmse(matrix, split.test),
                "rank": solution.matrix.rank,
                "effective_rank": float(effective_rank(solution.matrix.singular_values)),
                "nuclear_norm": solution.matrix.nuclear_norm,
                "relative_gap": solution.relative_gap,
            }
        )
    return pa.Table.from_pylist(rows)


def _rmse(matrix: Tensor, entries: Observations) -> float:
    return float((matrix[entries.coordinates()] - entries.values).square().mean().sqrt())
