"""Matrix completion problems with a known solution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dmf_fast.checks import real_number, whole_number
from dmf_fast.observations import Observations


@dataclass(frozen=True)
class LowRankProblem:
    """A matrix completion problem with a known solution.

    Attributes:
        truth: the ground truth, ``(m, n)``.
        train: its observed entries.
        test: all other entries, without noise.

    """

    truth: Tensor
    train: Observations
    test: Observations


def low_rank_problem(
    rows: int,
    columns: int,
    rank: int,
    observed: int,
    seed: int,
    *,
    noise: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> LowRankProblem:
    """Draw a random matrix of a given rank and observe some of its entries.

    The truth is U Vᵀ with standard Gaussian factors, scaled to the Frobenius norm sqrt(rows · columns), so
    that an entry is about 1 in size. ``observed`` entries are drawn uniformly without replacement;
    Gaussian noise of standard deviation ``noise`` is added to those, never to the truth. Source: Arora,
    Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization", 2019, section 2.

    Raises `ValueError` for a rank outside 1 … min(rows, columns), for ``observed`` outside
    1 … rows · columns and for a negative noise.

    >>> problem = low_rank_problem(6, 4, rank=2, observed=10, seed=0)
    >>> problem.truth.shape, len(problem.train), len(problem.test)
    (torch.Size([6, 4]), 10, 14)
    """
    whole_number("rank", rank, least=1, most=min(rows, columns))
    whole_number("observed", observed, least=1, most=rows * columns)
    real_number("noise", noise, least=0)
    random = np.random.default_rng(seed)
    truth = random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns))
    truth *= np.sqrt(rows * columns) / np.linalg.norm(truth)
    is_observed = np.zeros((rows, columns), dtype=bool)
    is_observed.flat[random.choice(rows * columns, size=observed, replace=False)] = True
    measured = truth[is_observed] + noise * random.standard_normal(observed)

    def entries(mask: np.ndarray, values: np.ndarray) -> Observations:
        row_indices, column_indices = np.nonzero(mask)
        return Observations(row_indices, column_indices, values, (rows, columns), dtype=dtype)

    return LowRankProblem(
        truth=torch.from_numpy(truth).to(dtype),
        train=entries(is_observed, measured),
        test=entries(~is_observed, truth[~is_observed]),
    )
