"""Whether predictions are as large as what they predict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmf_fast.evaluation.numbers import Floats

MOST_DISTINCT = 20  # so many distinct values, such as half stars, each get a bin of their own


@dataclass(frozen=True)
class CalibrationBin:
    """The test ratings whose ``key`` (value or prediction) lies in ``lowest`` … ``highest``."""

    lowest: float
    highest: float
    count: int
    mean_prediction: float
    mean_value: float

    @property
    def bias(self) -> float:
        """By how much the predictions are too large on average."""
        return self.mean_prediction - self.mean_value

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the bias, for JSON."""
        return {**asdict(self), "bias": self.bias}


def calibration(
    keys: NDArray[Any], predictions: Floats, values: Floats, bins: int = 10
) -> tuple[CalibrationBin, ...]:
    """Return mean prediction and mean value in bins of rising ``keys``; no bin is empty.

    With ``keys=predictions`` a calibrated model has the two means alike in every bin. With ``keys=values``
    predictions are nearer the middle than the values even for the best model; how much nearer shows what
    it does to rare ratings. Weights do not count here.

    Args:
        keys: ``(len,)``; with at most 20 distinct ones each is a bin, else quantiles bound the bins.
        predictions: ``(len,)``, finite.
        values: ``(len,)``, finite.
        bins: how many quantile bins, at most; equal keys never part, so there may be fewer.

    Example:
        >>> truth = np.array([1.0, 1.0, 5.0])
        >>> [(part.count, part.bias) for part in calibration(truth, np.array([2.0, 3.0, 4.0]), truth)]
        [(2, 1.5), (1, -1.0)]

    """
    if not len(keys):
        return ()
    lower_edges = np.unique(keys)
    if len(lower_edges) > MOST_DISTINCT:
        # Quantiles that are keys themselves: no interpolation, which could round past the largest.
        shares = np.arange(bins) / bins
        lower_edges = np.unique(np.quantile(keys, shares, method="inverted_cdf"))
    bin_of = np.searchsorted(lower_edges, keys, side="right") - 1
    counts = np.bincount(bin_of, minlength=len(lower_edges))
    highest = np.full(len(lower_edges), -np.inf)
    np.maximum.at(highest, bin_of, keys)
    mean_prediction, mean_value = (np.bincount(bin_of, part) / counts for part in (predictions, values))
    columns = (lower_edges, highest, counts, mean_prediction, mean_value)
    return tuple(CalibrationBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True))
