"""Small ratings with a structure, and parameters that train on them at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmf_fast import MatrixCompleter

# On the CPU also where there is a GPU: some are trained when a file is collected.
QUICK: dict[str, Any] = {"hidden": 4, "steps": 60, "evaluate_every": 5, "device": "cpu"}


def quick(**parameters: Any) -> MatrixCompleter:
    """An estimator that is trained in a few hundredths of a second."""
    return MatrixCompleter(**(QUICK | parameters))


def ratings(
    rows: int = 40, columns: int = 30, count: int = 600, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of integer ids with gaps and ratings around 3.5: biases, one factor, and noise of 0.2."""
    random = np.random.default_rng(seed)
    i, j = np.divmod(random.choice(rows * columns, count, replace=False), columns)
    y = 3.5 + 0.5 * (random.normal(size=rows)[i] + random.normal(size=columns)[j])
    y += random.normal(size=rows)[i] * random.normal(size=columns)[j] + 0.2 * random.normal(size=count)
    return np.stack([1000 + 7 * i, 5 * j], axis=1), y
