"""Calibration: mean predictions compared with mean values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.checks import whole_number
from dmf_fast.evaluation.numbers import Floats
from dmf_fast.sharding import WHOLE, RowSharding

MOST_DISTINCT = 20  # up to this many distinct values, such as half stars, get a bin each


@dataclass(frozen=True)
class CalibrationBin:
    """The test ratings with a key (value or prediction) from ``lowest`` to ``highest``."""

    lowest: float
    highest: float
    count: int
    mean_prediction: float
    mean_value: float
    rmse: float

    @property
    def bias(self) -> float:
        """The mean prediction minus the mean value."""
        return self.mean_prediction - self.mean_value

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the bias, for JSON."""
        return {**asdict(self), "bias": self.bias}


def calibration(
    keys: NDArray[Any],
    predictions: Floats,
    values: Floats,
    bins: int = 10,
    sharding: RowSharding = WHOLE,
) -> tuple[CalibrationBin, ...]:
    """Return mean prediction, mean value and RMSE in bins of increasing ``keys``; no bin is empty.

    With ``keys=predictions``, both means of a calibrated model agree in each bin. With ``keys=values``,
    predictions are closer to the middle than the values even for the best model; by how much shows how it
    treats rare ratings. Weights are ignored.

    Args:
        keys: ``(len,)``; up to 20 distinct keys are a bin each, otherwise bins are bounded by quantiles.
        predictions: ``(len,)``, finite.
        values: ``(len,)``, finite.
        bins: maximum number of quantile bins, at least 1; equal keys stay in one bin, so there may be fewer.
        sharding: if processes share the ratings, their sharding; the bins are those of all ratings, and each
            process receives all keys.

    Raises:
        TypeError, ValueError: ``bins`` is not an integer or below 1.

    Example:
        >>> truth = np.array([1.0, 1.0, 5.0])
        >>> [(part.count, part.bias) for part in calibration(truth, np.array([2.0, 3.0, 4.0]), truth)]
        [(2, 1.5), (1, -1.0)]

    """
    bins = whole_number("bins", bins, least=1)
    lower_edges = np.unique(_of_all(np.unique(keys), sharding))
    if not len(lower_edges):
        return ()
    if len(lower_edges) > MOST_DISTINCT:
        # Quantiles without interpolation, which could round past the largest key.
        shares = np.arange(bins) / bins
        lower_edges = np.unique(np.quantile(_of_all(keys, sharding), shares, method="inverted_cdf"))
    bin_of = np.searchsorted(lower_edges, keys, side="right") - 1
    highest = np.full(len(lower_edges), -np.inf)
    np.maximum.at(highest, bin_of, keys)
    counts = np.bincount(bin_of, minlength=len(lower_edges))
    # For an empty array, which a process may have, NumPy returns integers.
    sums = [
        np.bincount(bin_of, part, minlength=len(lower_edges)).astype(np.float64, copy=False)
        for part in (predictions, values, (predictions - values) ** 2)
    ]
    sharding.add_up_arrays([counts, *sums])
    mean_prediction, mean_value, mean_square = (part / counts for part in sums)
    columns = (lower_edges.tolist(), sharding.largest(highest.tolist()), counts.tolist())
    means = (mean_prediction.tolist(), mean_value.tolist(), np.sqrt(mean_square).tolist())
    return tuple(CalibrationBin(*row) for row in zip(*columns, *means, strict=True))


def _of_all(keys: NDArray[Any], sharding: RowSharding) -> NDArray[Any]:
    """Return the keys of all processes, concatenated."""
    if sharding.size == 1:
        return keys
    lengths = [int(one) for one in sharding.gathered([torch.tensor([len(keys)], device="cpu")])]
    padded = torch.zeros(max(lengths), dtype=torch.float64, device="cpu")
    padded[: len(keys)] = torch.from_numpy(keys)
    every = sharding.gathered([padded])
    return np.concatenate([one[:length].numpy() for one, length in zip(every, lengths, strict=True)])
