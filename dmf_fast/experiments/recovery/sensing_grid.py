"""Grids of sensing problems and factorizations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_fast.experiments.recovery.sensing_dimension import statistical_dimension
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.synthetic import low_rank_problem


@dataclass(frozen=True)
class SensingGrid:
    """Square matrices of one rank, reconstructed from several numbers of Gaussian measurements.

    Half the size that Arora, Cohen, Hu & Luo (NeurIPS 2019) take; `PAPER_SIZE` has theirs. They take
    about 2 and 5 measurements per degree of freedom, of which there are 291 here. But 2 per degree of
    freedom, about 600, is more than the statistical dimension (see `sensing_dimension`), 587, from which on
    the nuclear norm recovers the matrix: nothing would be left to do better. So the few are 500; the many
    are far enough above it, and cost less than 1,500.

    With ``nested``, smaller numbers of measurements are the first of the larger ones; their runs share steps.
    """

    size: int = 50
    rank: int = 3
    measured: tuple[int, ...] = (500, 1_000)
    depths: tuple[int, ...] = (2, 3, 4)
    init_scales: tuple[float, ...] = (1e-3, 1e-4, 1e-5, 1e-6)
    learning_rate: float = 1e-3
    seeds: int = 5
    steps: int = 100_000
    train_loss_threshold: float = 1e-6
    nested: bool = False

    @property
    def few(self) -> int:
        """The smallest number of measurements."""
        return min(self.measured)

    @property
    def many(self) -> int:
        """The largest number of measurements."""
        return max(self.measured)

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of a matrix of this rank."""
        return self.rank * (2 * self.size - self.rank)

    @property
    def statistical_dimension(self) -> float:
        """About the number of measurements that the nuclear norm needs."""
        return statistical_dimension(self.size, self.rank)

    def truth(self, seed: int) -> Tensor:
        """Draw the matrix, ``(size, size)``, float32."""
        return low_rank_problem(
            self.size, self.size, self.rank, observed=1, seed=seed, dtype=torch.float32
        ).truth

    def settings(self) -> dict[str, str]:
        """Return the settings that a report shows."""
        counts = (f"{count:,} ({count / self.degrees_of_freedom:.2f})" for count in self.measured)
        return {
            "matrix": f"{self.size} × {self.size}, U Vᵀ with Gaussian factors scaled to ‖W‖_F = {self.size}",
            "rank": str(self.rank),
            "measurements": ", ".join(counts) + ", in brackets how many for each of the "
            f"{self.degrees_of_freedom:,} degrees of freedom of a matrix of this rank",
            "measurement matrices": f"Gaussian entries of standard deviation 1/{self.size}, so that the "
            "train loss is on the scale of the reconstruction error",
            "depths": ", ".join(map(str, self.depths)) + f", all widths {self.size}",
            "initialization": "Gaussian, scales " + ", ".join(f"{scale:g}" for scale in self.init_scales),
            "optimizer": f"GroupRMSprop, learning rate {self.learning_rate:g}",
            "stopped": f"at a train loss of {self.train_loss_threshold:g}, or after {self.steps:,} steps",
            "seeds": f"{self.seeds}, each with its own matrix, measurements and starts",
            "nuclear norm": "least one that agrees with the measurements, to a relative duality gap of 1e-6",
        }


FULL = SensingGrid()
PAPER_SIZE = replace(FULL, size=100, rank=5, measured=(2_000, 5_000))
# Likewise: 39 degrees of freedom, and a statistical dimension of 81.
QUICK = SensingGrid(
    size=20,
    rank=1,
    measured=(65, 200),
    init_scales=(1e-3, 1e-5),
    learning_rate=2e-3,
    seeds=2,
    steps=10_000,
)


def sweep(grid: SensingGrid, measured: tuple[int, ...]) -> SensingGrid:
    """Return the sweep over numbers of measurements: fewer depths, from the smallest initialization only.

    Steps are three times as long, which changes errors by a few percent.
    """
    return replace(
        grid,
        measured=measured,
        depths=(2, 3),
        init_scales=(min(grid.init_scales),),
        learning_rate=3 * grid.learning_rate,
        steps=grid.steps // 5,
        nested=True,
    )


FULL_SWEEP = sweep(FULL, (300, 350, 400, 450, 500, 550, 600, 650, 700))
PAPER_SIZE_SWEEP = sweep(PAPER_SIZE, (1_000, 1_200, 1_400, 1_600, 1_800, 2_000, 2_200, 2_400))
QUICK_SWEEP = sweep(QUICK, (45, 65, 80, 105, 130))


def grids(reproduction: Reproduction) -> tuple[SensingGrid, SensingGrid]:
    """Return the grid and the sweep of a reproduction."""
    if reproduction.quick:
        return QUICK, QUICK_SWEEP
    return (PAPER_SIZE, PAPER_SIZE_SWEEP) if reproduction.paper_size else (FULL, FULL_SWEEP)
