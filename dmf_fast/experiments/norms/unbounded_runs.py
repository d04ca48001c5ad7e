"""Runs on three entries of a 2 × 2 matrix, and the bounds that hold as long as det W keeps its sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dmf_fast.chain import chain_product
from dmf_fast.experiments.running.columns import column
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.training import FitOptions, Recording, Trial, TrialResult

Start = Literal["balanced", "random"]

# Stable up to W_11 ≈ 150: the curvature grows like W_11^(2 − 2/N).
LEARNING_RATES = {2: 1e-2, 3: 2e-3, 4: 8e-4}
INIT_SCALE = 1e-2
# Gaussian entries of standard deviation 8e-3 at depth 3, the default of the authors' public code.
RANDOM_INIT_SCALE = 2**1.5 * 8e-3**3
LOSS_THRESHOLD = 1e-8
MEASURES = ("train_loss", "test_rmse", "singular_value_2", "effective_rank")


@dataclass(frozen=True)
class Observed:
    """The observed entries of the 2 × 2 matrix; W_11 is not observed."""

    w_12: float = 1.0
    w_21: float = 1.0
    w_22: float = 0.0

    @property
    def sign(self) -> int:
        """Sign of W_12 · W_21."""
        return 1 if self.w_12 * self.w_21 > 0 else -1


@dataclass(frozen=True)
class TwoByTwo:
    """The observed values, and the start of the descent.

    Attributes:
        observed: the values.
        start: ``"balanced"``, see `balanced_start`, or ``"random"``: independent normal entries.
        depth: of the chain.
        determinant: sign of the determinant of the product at the start, 1 or -1.
        seed: of the start.

    """

    observed: Observed
    start: Start
    depth: int
    determinant: int
    seed: int

    @property
    def grows(self) -> bool:
        """Whether the determinant starts with the sign of W_12 · W_21."""
        return self.determinant == self.observed.sign

    def factors(self) -> list[Tensor]:
        """Return the factors at the start."""
        if self.start == "balanced":
            return balanced_start(self.depth, self.determinant, self.seed)
        return random_factors(self.depth, self.determinant, self.seed)

    def trial(self, steps: int) -> Trial:
        """Return the trial: gradient descent to a loss of `LOSS_THRESHOLD`, for at most ``steps`` steps."""
        values = asdict(self.observed)
        return Trial(
            values
            | {
                "start": self.start,
                "depth": self.depth,
                "determinant": self.determinant,
                "seed": self.seed,
            },
            self.factors(),
            Observations([0, 1, 1], [1, 0, 1], list(values.values()), (2, 2), dtype=torch.float64),
            partial(torch.optim.SGD, lr=LEARNING_RATES[self.depth]),
            FitOptions(steps=steps, train_loss_threshold=LOSS_THRESHOLD),
            # From random starts, the entry jumps within a small fraction of the time elapsed.
            Recording(per_decade=400 if self.start == "random" else 40, singular_values=2, spectrum=True),
            test=Observations([0], [0], [0.0], (2, 2), dtype=torch.float64),  # its RMSE is |W_11|
        )


@dataclass(frozen=True, eq=False)
class Curve:
    """A run: loss, |W_11|, σ_2 and effective rank, each ``(rows,)``, NaN if not measured.

    ``last_product``, ``(2, 2)``, is W after all ``steps``, and ``last_determinant`` its determinant, see
    `determinant_of`.
    """

    problem: TwoByTwo
    loss: NDArray[np.float64]
    entry: NDArray[np.float64]
    distance: NDArray[np.float64]
    effective_rank: NDArray[np.float64]
    last_product: NDArray[np.float64]
    last_determinant: float
    steps: int

    @staticmethod
    def of(problem: TwoByTwo, one: TrialResult) -> Curve:
        """Return the curve of a trial."""
        loss, entry, distance, rank = (column(one.result.history.table, name) for name in MEASURES)
        product, determinant = chain_product(one.factors).numpy(), determinant_of(one.factors)
        return Curve(problem, loss, entry, distance, rank, product, determinant, one.result.steps)

    def slope(self) -> float:
        """Return d log |W_11| / d(−log loss) over the last decade of the loss."""
        last = self.loss <= 10 * self.loss[-1]
        return float(np.polyfit(-np.log(self.loss[last]), np.log(self.entry[last]), 1)[0])

    def below(self) -> NDArray[np.bool_]:
        """Return the rows in which |W_11| is below `least_entry` or not a number, as booleans."""
        return ~(self.entry >= least_entry(self.loss, self.problem.observed))


def balanced_start(depth: int, determinant: int, seed: int) -> list[Tensor]:
    """Return balanced factors of a symmetric product whose determinant has the sign ``determinant``.

    All factors are the same symmetric matrix, except for the sign of an eigenvalue of the last. At depth 2
    this keeps W_2 = W_1ᵀ exactly. From other starts, rounding unbalances the factors; as σ_2 falls
    exponentially, that soon flips the sign of the determinant, which gradient flow would keep.

    >>> determinant_of(balanced_start(3, -1, seed=0)) < 0
    True
    """
    angle, *sizes = np.random.default_rng(seed).random(3)
    axis = torch.tensor(
        [np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)], dtype=torch.float64, device="cpu"
    )
    along = torch.outer(axis, axis)
    across = torch.eye(2, dtype=along.dtype, device=along.device) - along
    first, second = ((INIT_SCALE * (0.5 + size)) ** (1 / depth) for size in sizes)
    return [first * along + sign * second * across for sign in [1] * (depth - 1) + [determinant]]


def random_factors(depth: int, determinant: int, seed: int) -> list[Tensor]:
    """Return Gaussian factors, with a row of the last negated if the determinant has the wrong sign.

    A negated row is as likely as the row itself, so this draws from the starts of that sign.

    >>> determinant_of(random_factors(3, 1, seed=0)) > 0
    True
    """
    factors = initialize("gaussian", (2,) * (depth + 1), RANDOM_INIT_SCALE, seed=seed, dtype=torch.float64)
    if determinant_of(factors) * determinant < 0:
        factors[-1][0].neg_()
    return factors


def determinant_of(factors: Sequence[Tensor]) -> float:
    """Return det W as the product of those of the factors: accurate however small it is relative to W.

    >>> determinant_of([torch.eye(2), 2 * torch.eye(2)])
    4.0
    """
    return math.prod(float(torch.linalg.det(factor)) for factor in factors)


def least_entry(loss: ArrayLike, observed: Observed = Observed()) -> NDArray[np.float64]:
    """Return the lower bound of |W_11| if det W has the sign of W_12 · W_21.

    With ε = √(3 · loss), the root of the sum of the squared residuals, it is (|w_12| − ε)(|w_21| − ε) /
    (|w_22| + ε) for the observed values w, as long as ε is below |w_12| and |w_21|, and 0 otherwise.

    >>> least_entry([1 / 12, 1.0])
    array([0.5, 0. ])
    """
    epsilon = np.sqrt(3 * np.asarray(loss, dtype=float))
    first, second = (np.maximum(abs(value) - epsilon, 0) for value in (observed.w_12, observed.w_21))
    bound: NDArray[np.float64] = first * second / (abs(observed.w_22) + epsilon)
    return bound


def most_effective_rank(loss: ArrayLike) -> NDArray[np.float64]:
    """Return the upper bound of the effective rank if W_12 = W_21 = 1, W_22 = 0 are fitted with det W > 0.

    With ε = √(3 · loss) below 1/2: σ_1 ≥ |W_11| > (1 − ε)² / ε and σ_2 ≤ ε, so that σ_2 / σ_1 is below
    r = (ε / (1 − ε))², and the effective rank below that of the singular values 1 and r; else it is 2.

    >>> most_effective_rank([1e-4, 1.0]).round(3)
    array([1.003, 2.   ])
    """
    epsilon = np.sqrt(3 * np.asarray(loss, dtype=float))
    ratio = np.where(epsilon < 0.5, (epsilon / (1 - np.minimum(epsilon, 0.5))) ** 2, 1.0)
    shares = np.stack([1 / (1 + ratio), ratio / (1 + ratio)])
    bound: NDArray[np.float64] = np.exp(-(shares * np.log(shares)).sum(0))
    return bound
