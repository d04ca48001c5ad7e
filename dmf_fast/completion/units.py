"""Units in which the squares of values fit in float32, and the conversion of measurements back."""

from __future__ import annotations

import math
from dataclasses import replace

import pyarrow as pa

from dmf_fast.distributed import RowBlocks
from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import value_range
from dmf_fast.training import FitOptions, History

# If the largest value lies between this and its inverse, the unit is 1.
_PLAIN_VALUES = 1e6
_POWERS = {"train_loss": 2, "validation_rmse": 1, "test_rmse": 1, "reconstruction_mse": 2}


def value_unit(observations: Observations) -> float:
    """Return 1, or the power of 2 next to the largest value if squares might leave the range of float32.

    >>> value_unit(Observations([0], [0], [5.0])), value_unit(Observations([0], [0], [1e-30])) == 2.0**-100
    (1.0, True)
    """
    largest = max(map(abs, value_range(observations))) if len(observations) else 0.0
    if largest == 0 or 1 / _PLAIN_VALUES < largest < _PLAIN_VALUES:
        return 1.0
    return 2.0 ** round(math.log2(largest))


def in_unit(observations: Observations, unit: float) -> Observations:
    """Return the entries with values divided by ``unit``; the same object if that is 1.

    >>> in_unit(Observations([0], [0], [6.0]), 2.0).values
    tensor([3.])
    """
    if unit == 1:
        return observations
    if isinstance(observations, RowBlocks):
        return observations.map_values(lambda part: in_unit(part, unit), f"in {unit}")
    return observations.with_values(observations.values.double() / unit, observations.weights)


def options_in_unit(options: FitOptions, unit: float) -> FitOptions:
    """Return the options for values divided by ``unit``.

    >>> options_in_unit(FitOptions(train_loss_threshold=1.0), 2.0).train_loss_threshold
    0.25
    """
    threshold = options.train_loss_threshold
    if threshold is None:
        return options
    return replace(options, train_loss_threshold=threshold / unit / unit)


def measured(name: str, number: float | None, unit: float) -> float | None:
    """Return a number of a history column in units of the values; columns without a unit stay the same.

    >>> measured("train_loss", 3.0, 2.0), measured("step", 3.0, 2.0), measured("test_rmse", None, 2.0)
    (12.0, 3.0, None)
    """
    if number is None:
        return None
    for _ in range(_power(name)):  # the square of the unit might leave the range of float64
        number *= unit
    return number


def measured_history(history: History, unit: float) -> History:
    """Return the history of a run on values divided by ``unit``, in units of the values."""
    if unit == 1:
        return history
    table = history.table
    columns = {name: [measured(name, number, unit) for number in table[name].to_pylist()] for name in history}
    return History(pa.table(columns, schema=table.schema))


def _power(name: str) -> int:
    """Return the power of the unit in which a history column is measured."""
    return 1 if name.startswith("singular_value_") else _POWERS.get(name, 0)
