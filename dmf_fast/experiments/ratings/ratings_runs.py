"""MovieLens 100K completed from shares of its ratings by jobs of every depth, with decay and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from dmf_fast.chain import singular_values
from dmf_fast.completion import CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.evaluation import HeldOut, errors_of
from dmf_fast.experiments.page.section import Work
from dmf_fast.experiments.ratings.movielens_data import read_all_ratings
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.files.identity import plain
from dmf_fast.files.text import json_text
from dmf_fast.observations import Observations
from dmf_fast.spectrum import effective_rank
from dmf_fast.training import FitOptions

KEPT_SINGULAR_VALUES = 64
_SCHEMA = pa.schema(
    {
        "share": pa.float64(),
        "seed": pa.int64(),
        "model": pa.string(),
        "train_entries": pa.int64(),
        "chosen": pa.string(),
        "test_rmse": pa.float64(),
        "validation_rmse": pa.float64(),
        "effective_rank": pa.float64(),  # null for the biases alone
        "singular_values": pa.list_(pa.float64()),
        "steps": pa.int64(),
    }
)


@dataclass(frozen=True)
class RatingsGrid:
    """Random splits that train on ``shares`` of the ratings and test on the others.

    ``depths`` are trained with the default weight decay, ``undecayed`` without any on factors or biases,
    which still start as a joint ridge regression.
    """

    shares: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.9)
    splits: int = 5
    depths: tuple[int, ...] = (1, 2, 3, 4)
    undecayed: tuple[int, ...] = (2, 3, 4)
    steps: int = 5_000

    def jobs(self) -> Iterator[tuple[str, CompletionOptions]]:
        """Return the jobs of every split, by name."""
        fit = FitOptions(steps=self.steps, patience=20, progress=False)
        for depth in self.depths:
            yield f"depth {depth}", CompletionOptions(depth=depth, fit=fit)
        for depth in self.undecayed:
            yield (
                f"depth {depth}, no decay",
                CompletionOptions(depth=depth, weight_decay=0.0, bias_weight_decay=0.0, fit=fit),
            )
        yield "auto", CompletionOptions(fit=fit)


FULL = RatingsGrid()
QUICK = RatingsGrid(shares=(0.3, 0.5), splits=2, depths=(2, 3), undecayed=(2, 3))


@dataclass(frozen=True)
class RatingsResults:
    """The results.

    Attributes:
        runs: one row per job: ``share``, ``seed`` (of the split), ``model``, ``chosen``, ``test_rmse``,
            ``validation_rmse``, ``effective_rank``, ``singular_values``, ``steps``, ``train_entries``.
        work: the steps of all jobs.

    """

    runs: pa.Table
    work: list[Work]


def run_ratings(grid: RatingsGrid, folder: Path, reproduction: Reproduction) -> RatingsResults:
    """Run everything on ``u.data`` of ``folder``, or load earlier results."""
    observed = read_all_ratings(folder)
    parts = [(share, seed) for share in grid.shares for seed in range(grid.splits)]
    tables = []
    for share, seed in tqdm(parts, unit="split", disable=reproduction.hides_bars):
        name = f"{share:g}-{seed}-{_key(grid, observed, share)}.parquet"
        tables.append(
            cached_table(
                reproduction.folder / "ratings" / name,
                partial(_split, grid, observed, share, seed),
            )
        )
    runs = pa.concat_tables(tables)
    return RatingsResults(runs, _work(runs, observed.shape))


def _key(grid: RatingsGrid, observed: Observations, share: float) -> str:
    """Return a key that identifies the jobs and their entries."""
    return sha256(json_text(plain([observed.digest(), share, *grid.jobs()])).encode()).hexdigest()[:16]


def _split(grid: RatingsGrid, observed: Observations, share: float, seed: int) -> pa.Table:
    """Run all jobs of one split; the joint ridge comes first."""
    test, train = observed.split(share, seed)
    rows: list[dict[str, object]] = []
    for model, options in grid.jobs():
        completed = complete_matrix(train, options, test=test)
        if not rows:
            rows.append(_row(share, seed, "biases", train, _biases(completed, test)))
        rows.append(_row(share, seed, model, train, _measured(completed)))
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _row(
    share: float, seed: int, model: str, train: Observations, measured: dict[str, object]
) -> dict[str, object]:
    return {"share": share, "seed": seed, "model": model, "train_entries": len(train)} | measured


def _biases(completed: CompletedMatrix, test: Observations) -> dict[str, object]:
    assert completed.biases is not None
    errors = errors_of(completed.biases, HeldOut.of(test))
    return {
        "chosen": "biases",
        "test_rmse": errors.rmse,
        "validation_rmse": completed.candidates[0].validation_rmse,
        "effective_rank": None,
        "singular_values": [0.0] * KEPT_SINGULAR_VALUES,
        "steps": 0,
    }


def _measured(completed: CompletedMatrix) -> dict[str, object]:
    values = singular_values(completed.model.chain_and_biases()[0])
    kept = values.new_zeros(KEPT_SINGULAR_VALUES)
    kept[: len(values)] = values[:KEPT_SINGULAR_VALUES]
    has_none = completed.chosen.name == "biases"
    return {
        "chosen": completed.chosen.name,
        "test_rmse": completed.test_rmse,
        "validation_rmse": completed.validation_rmse,
        "effective_rank": None if has_none else float(effective_rank(values)),
        "singular_values": kept.tolist(),
        "steps": completed.steps + completed.refit_steps,
    }


def _work(runs: pa.Table, shape: tuple[int, int]) -> list[Work]:
    """Return the steps; in a job of several depths, only the width of the factors is distinguished."""
    steps: dict[int, int] = {}
    for row in runs.select(["train_entries", "steps"]).to_pylist():
        steps[row["train_entries"]] = steps.get(row["train_entries"], 0) + row["steps"]
    dims = (shape[1], KEPT_SINGULAR_VALUES, shape[0])
    return [Work("completion", dims, entries, count) for entries, count in steps.items()]
