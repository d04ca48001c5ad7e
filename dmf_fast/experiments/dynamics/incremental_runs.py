"""Gradient descent on ``U Uᵀ`` for matrix sensing, and its distances to solutions of low rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.experiments.dynamics.closed_form import Numbers, symmetric_matrix
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.experiments.running.columns import column
from dmf_fast.files.identity import sha256_of
from dmf_fast.sensing import Measurements, gaussian_measurements, sensing_loss
from dmf_fast.threads import threads_kept, use_one_thread

DIM, MEASURED, SINGULAR_VALUES = 20, 300, (8.0, 4.0, 2.0)
RANK = len(SINGULAR_VALUES)
LEARNING_RATE, STEPS, EVERY = 1.0, 2_500, 5
INIT_SCALES = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10)
_OTHER_SCALE = 1e-2
_FIRST_SEED_OF_A_START = 1_000  # one generator draws measurements and starts


@dataclass(frozen=True)
class IncrementalRun:
    """A run of gradient descent from ``U`` of a width and a scale.

    Attributes:
        width: columns of ``U``; `DIM` if the rank is not limited.
        scale: of ``U Uᵀ`` at the start.
        seed: of matrix, measurements and start.
        losses: ``(rows,)``, mean squared residuals, a row every `EVERY` steps.
        distances: ``(rows, RANK)``, to W_1, W_2, …, over their norms.

    """

    width: int
    scale: float
    seed: int
    losses: Numbers
    distances: Numbers

    def least(self, rank: int) -> float:
        """Return the smallest distance to W_rank."""
        return float(self.distances[:, rank - 1].min())

    def nearest(self, rank: int) -> int:
        """Return the step of the smallest distance."""
        return EVERY * int(self.distances[:, rank - 1].argmin())


@dataclass(frozen=True)
class SensingProblem:
    """All runs on the measurements of one seed.

    Attributes:
        seed: of matrix and measurements.
        runs: those of full width, the largest scale first, then those of widths from 1 to `RANK`.
        disagreement: ``(RANK,)``, distances of W_1, W_2, … to where descent of the same width ends from
            another start, over their norms.
        truncation: ``(RANK,)``, distances of the best approximations of the measured matrix to W_1, W_2, ….

    """

    seed: int
    runs: Sequence[IncrementalRun]
    disagreement: Numbers
    truncation: Numbers

    def wide(self) -> list[IncrementalRun]:
        """Return the runs whose rank is not limited."""
        return [run for run in self.runs if run.width == DIM]

    def narrow(self) -> list[IncrementalRun]:
        """Return the runs of limited rank, by width."""
        return [run for run in self.runs if run.width < DIM]


def sensing_problem(seed: int, reproduction: Reproduction) -> SensingProblem:
    """Run all chains on the measurements of a seed, or load earlier results."""
    truth = measured_matrix(seed)
    measurements = gaussian_measurements(truth, MEASURED, seed)
    starts = [_start(DIM, scale, seed) for scale in INIT_SCALES]
    starts += [_start(width, INIT_SCALES[-1], seed) for width in range(1, 1 + RANK)]
    starts += [_start(width, _OTHER_SCALE, seed + 1) for width in range(1, 1 + RANK)]
    digest = sha256_of(measurements.matrices, *starts)[:16]
    folder = reproduction.folder / "incremental" / f"{digest}-{LEARNING_RATE:g}-{STEPS}-{EVERY}"
    rows = cached_table(folder, lambda: _rows(torch.stack(starts), measurements, truth))
    losses, distances = column(rows, "losses"), column(rows, "distances").reshape(len(rows), -1, RANK)
    described = [(DIM, scale) for scale in INIT_SCALES] + [
        (width, INIT_SCALES[-1]) for width in range(1, 1 + RANK)
    ]
    runs = [
        IncrementalRun(width, scale, seed, losses[place], distances[place])
        for place, (width, scale) in enumerate(described)
    ]
    disagreement = np.array([distances[len(runs) + place, -1, place] for place in range(RANK)])
    return SensingProblem(seed, runs, disagreement, column(rows, "truncation")[0])


def measured_matrix(seed: int) -> Tensor:
    """Return a random positive semidefinite matrix with the singular values `SINGULAR_VALUES`, float64."""
    return torch.from_numpy(symmetric_matrix(DIM, SINGULAR_VALUES, seed))


def _start(width: int, scale: float, seed: int) -> Tensor:
    """Return a Gaussian ``U``, ``(DIM, DIM)``, whose columns from ``width`` on are zero and stay so."""
    generator = torch.Generator().manual_seed(_FIRST_SEED_OF_A_START + seed)
    start = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64) * math.sqrt(scale / DIM)
    start[:, width:] = 0
    return start


def _rows(starts: Tensor, measurements: Measurements, truth: Tensor) -> pa.Table:
    """Return a row for every start: ``losses``; ``distances``, row by row; and ``truncation``."""
    with threads_kept():
        use_one_thread()  # a step is too short to share among threads
        losses, products = descend(starts, measurements)
    solutions = products[-1, len(INIT_SCALES) : len(INIT_SCALES) + RANK]
    norms = torch.linalg.matrix_norm(solutions)
    distances = (
        torch.stack([torch.linalg.matrix_norm(products - solution) for solution in solutions], dim=-1) / norms
    )
    left, values, right = torch.linalg.svd(truth)
    truncated = torch.stack([left[:, :k] * values[:k] @ right[:k] for k in range(1, 1 + RANK)])
    truncation = torch.linalg.matrix_norm(truncated - solutions) / norms
    return pa.table(
        {
            "losses": losses.T.tolist(),
            "distances": distances.transpose(0, 1).flatten(1).tolist(),
            "truncation": [truncation.tolist()] * len(starts),
        }
    )


def descend(starts: Tensor, measurements: Measurements) -> tuple[Tensor, Tensor]:
    """Descend the mean loss of ``U Uᵀ`` from all starts in one batch of independent runs.

    Args:
        starts: ``U``, ``(runs, n, width)``, float64.
        measurements: of ``(n, n)``.

    Returns:
        Losses, ``(rows, runs)``, and products, ``(rows, runs, n, n)``, every `EVERY` steps from 0 to `STEPS`.

    """
    factors = starts.clone().requires_grad_()
    losses, products = [], []
    for step in range(STEPS + 1):
        product = factors @ factors.mT
        loss = sensing_loss(product, measurements)
        if step % EVERY == 0:
            losses.append(loss.detach())
            products.append(product.detach())
        (gradient,) = torch.autograd.grad(loss.sum(), factors)
        with torch.no_grad():
            factors -= LEARNING_RATE * gradient
    return torch.stack(losses), torch.stack(products)
