"""Checks of the indices that predictions are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_fast.observations.validation import read_indices


def checked_indices(name: str, given: Any, size: int, *, unknown: bool = False) -> Tensor:
    """Return indices of a matrix's lines as a new int64 tensor on the CPU, ``(len,)``.

    Args:
        name: what errors call them.
        given: integers from 0 to ``size - 1``: an array, a tensor or a list.
        size: how many lines there are.
        unknown: whether -1, an id that the model does not know, is allowed too.

    Raises:
        TypeError: they are not integers.
        ValueError: they are not one-dimensional.
        IndexError: one is out of range.

    Example:
        >>> checked_indices("rows", [2, -1], 3, unknown=True)
        tensor([ 2, -1])

    """
    indices = read_indices(name, given)
    outside = (indices < (-1 if unknown else 0)) | (indices >= size)
    if outside.any():
        place = int(outside.argmax())
        allowed = f"from 0 to {size - 1}" + (", or -1 for an unknown id" if unknown else "")
        raise IndexError(f"`{name}[{place}]` must be {allowed}, got {indices[place]}")
    return torch.from_numpy(np.array(indices, dtype=np.int64))
