"""Columns of tables of results as arrays."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def column(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of numbers, ``(rows,)``, or of lists, ``(rows, k)``: float64, NaN for None.

    >>> column(pa.table({"loss": [1, None]}), "loss")
    array([ 1., nan])
    """
    return np.array(table[name].to_pylist(), dtype=np.float64)


def by_seed(table: pa.Table, name: str, **labels: Any) -> np.ndarray:
    """Return a column of the rows with these labels, ordered by seed, ``(seeds,)``.

    >>> runs = pa.table({"depth": [3, 2, 3], "seed": [1, 0, 0], "loss": [0.1, 0.2, 0.3]})
    >>> by_seed(runs, "loss", depth=3)
    array([0.3, 0.1])
    """
    conditions = [pc.field(label) == value for label, value in labels.items()]
    found: np.ndarray = table.filter(reduce(and_, conditions)).sort_by("seed")[name].to_numpy()
    return found
