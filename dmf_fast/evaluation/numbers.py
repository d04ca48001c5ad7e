"""Checked numbers whose squares can be summed in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.observations.validation import (
    check_finite,
    check_length,
    check_not_negative,
    read_numbers,
    to_tensor,
)

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

LARGEST = 1e140  # the sum of the squares of 1e28 such numbers is still finite


def finite_numbers(name: str, given: Any, length: int) -> Floats:
    """Return ``given`` as a float64 array of ``length`` finite numbers of magnitude at most 1e140.

    Raises a `TypeError` if they are not real numbers, and a `ValueError` if they do not satisfy the rest.

    >>> finite_numbers("values", [1, 2], 2).tolist()
    [1.0, 2.0]
    """
    numbers = read_numbers(name, given)
    check_length(name, len(numbers), length)
    converted = to_tensor(numbers, torch.float64)
    check_finite(name, converted, numbers)
    array: Floats = converted.numpy()
    too_large = np.abs(array) > LARGEST
    if too_large.any():
        position = int(too_large.argmax())
        raise ValueError(
            f"`{name}` must be at most {LARGEST:g} in magnitude, got {name}[{position}] = "
            f"{array[position]:g}; scale them down"
        )
    return array


def finite_weights(given: Any, length: int) -> Floats:
    """Return ``given`` as `finite_numbers` does; raise a `ValueError` for negative numbers.

    >>> finite_weights([0.5], 1).tolist()
    [0.5]
    """
    weights = finite_numbers("weights", given, length)
    check_not_negative("weights", torch.from_numpy(weights))
    return weights
