"""Runs that complete a photograph with missing pixels, by low rank and by smoothness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import product
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.chain import chain_product, singular_values
from dmf_fast.convex import minimum_nuclear_norm
from dmf_fast.experiments.page.section import Work
from dmf_fast.experiments.recovery.images_data import Image, MaskedImage, portrait
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.extras import is_installed
from dmf_fast.files.text import json_text
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.spectrum import effective_rank
from dmf_fast.threads import one_thread_each
from dmf_fast.training import FitOptions, Recording, Trial, TrialResult

NUCLEAR_NORM, BIHARMONIC = "nuclear norm", "biharmonic"

# For held-out pixels and starts: drawn from the seed of the missing pixels, they would depend on them.
_FIRST_SEED_OF_A_RUN = 1_000


@dataclass(frozen=True)
class ImagesGrid:
    """Shares of missing pixels, depths and seeds; a pixel is the mean of ``block × block`` of the file.

    Learning rate and scale of the start were chosen on another picture, the cameraman of scikit-image.
    ``epsilon`` is the largest error of nuclear-norm minimization in an observed pixel, the square root of
    ``train_loss_threshold``; both are in standard deviations of the observed pixels.
    """

    block: int = 4
    missing: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9)
    depths: tuple[int, ...] = (2, 3)
    seeds: int = 5
    init_scale: float = 1e-2
    learning_rate: float = 0.04
    steps: int = 4_000
    record_every: int = 50
    validation_fraction: float = 0.05
    train_loss_threshold: float = 1e-4
    epsilon: float = 1e-2


FULL = ImagesGrid()
QUICK = ImagesGrid(block=5, missing=(0.3, 0.9), seeds=2, steps=2_000)


Problems = Mapping[tuple[float, int], MaskedImage]
"""The problems, by share of missing pixels and seed."""


@dataclass(frozen=True)
class ImagesResults:
    """The results of a grid.

    Attributes:
        grid: the grid.
        problems: the image and its observed pixels.
        runs: one row per completion: ``missing``, ``seed``, ``method``, ``error`` (mean squared, over the
            missing pixels), ``effective_rank`` (None of `BIHARMONIC`), and of deep factorizations
            ``stopped_rmse`` and ``ended_rmse``: over the missing pixels, not clipped, in standard deviations,
            at the step of the best validation and at the last.
        pictures: the completed images of the first seed, by method and share of missing pixels.
        work: the steps of all runs.

    """

    grid: ImagesGrid
    problems: Problems
    runs: pa.Table
    pictures: Mapping[tuple[str, float], Image]
    work: list[Work]

    @property
    def methods(self) -> list[str]:
        """The methods, in the order of tables and figures."""
        return list(dict.fromkeys(self.runs["method"].to_pylist()))

    def of(self, measure: str, method: str, missing: float) -> np.ndarray:
        """Return a measure, ``(seeds,)``."""
        return by_seed(self.runs, measure, method=method, missing=missing)


def run_images(grid: ImagesGrid, reproduction: Reproduction) -> ImagesResults:
    """Complete the portrait with all methods, or load earlier results.

    Raises `KeyboardInterrupt` after Ctrl-C; finished runs are kept.
    """
    image = portrait(grid.block)
    problems = {
        (missing, seed): MaskedImage.draw(image, missing, seed)
        for missing, seed in product(grid.missing, range(grid.seeds))
    }
    data = [problem.entries().digest() for problem in problems.values()]
    key = sha256(json_text([data, grid.epsilon, _has_biharmonic()]).encode()).hexdigest()[:16]
    folder = reproduction.folder / "images-without-depth" / f"{key}.parquet"
    others = cached_table(folder, lambda: _without_depth(grid, problems))
    ended = run_trials(list(_trials(grid, problems)), reproduction, "images")
    rows = [_row_of_trial(one, problems) for one in ended.results] + others.to_pylist()
    pictures = {
        (row["method"], row["missing"]): np.reshape(row["pixels"], image.shape)
        for row in rows
        if row["seed"] == 0
    }
    runs = pa.Table.from_pylist(rows).drop_columns(["pixels"])
    return ImagesResults(grid, problems, runs, pictures, work_of(ended.results))


def _trials(grid: ImagesGrid, problems: Problems) -> Iterator[Trial]:
    for depth, ((missing, seed), problem) in product(grid.depths, problems.items()):
        rows, columns = problem.image.shape
        seed_of_run = _FIRST_SEED_OF_A_RUN + seed
        train, validation = problem.entries().split(grid.validation_fraction, seed_of_run)
        yield Trial(
            {"missing": missing, "seed": seed, "method": f"depth {depth}"},
            initialize(
                "gaussian",
                (columns, *[min(rows, columns)] * (depth - 1), rows),
                grid.init_scale,
                seed=seed_of_run,
            ),
            train.to(dtype=torch.float32),
            partial(GroupRMSprop, lr=grid.learning_rate),
            FitOptions(steps=grid.steps, train_loss_threshold=grid.train_loss_threshold),
            Recording(every=grid.record_every, norms=False),
            validation=validation.to(dtype=torch.float32),
            test=problem.entries(observed=False).to(dtype=torch.float32),
        )


def _row_of_trial(one: TrialResult, problems: Problems) -> dict[str, Any]:
    labels, history = cast("dict[str, Any]", dict(one.trial.labels)), one.result.history
    problem = problems[labels["missing"], labels["seed"]]
    completed = problem.completed(chain_product(one.factors))
    assert one.result.best_step is not None  # it has validation entries
    best = history["step"].index(one.result.best_step)
    return {
        **_row(labels, problem, completed, singular_values(one.factors)),
        "stopped_rmse": history["test_rmse"][best],
        "ended_rmse": history["test_rmse"][-1],
    }


def _without_depth(grid: ImagesGrid, problems: Problems) -> pa.Table:
    def solve(missing: float, seed: int) -> list[dict[str, Any]]:
        problem, labels = problems[missing, seed], {"missing": missing, "seed": seed}
        least = minimum_nuclear_norm(problem.entries(), grid.epsilon).matrix
        completed = problem.completed(least.dense())
        rows = [_row({**labels, "method": NUCLEAR_NORM}, problem, completed, least.singular_values)]
        if _has_biharmonic():
            rows.append(_row({**labels, "method": BIHARMONIC}, problem, _biharmonic(problem)))
        return rows

    with one_thread_each(torch.get_num_threads()) as pool:
        solved = list(pool.map(solve, *zip(*problems, strict=True)))
    return pa.Table.from_pylist([row for rows in solved for row in rows])


def _row(
    labels: Mapping[str, Any], problem: MaskedImage, completed: Image, spectrum: Tensor | None = None
) -> dict[str, Any]:
    return {
        **labels,
        "error": problem.error(completed),
        "effective_rank": None if spectrum is None else float(effective_rank(spectrum)),
        "pixels": completed.ravel().tolist() if labels["seed"] == 0 else None,
    }


def _biharmonic(problem: MaskedImage) -> Image:
    from skimage.restoration import inpaint_biharmonic  # optional

    known = np.where(problem.observed, problem.image, 0.0)
    completed: Image = inpaint_biharmonic(known, ~problem.observed)
    return completed


def _has_biharmonic() -> bool:
    return is_installed("skimage")
