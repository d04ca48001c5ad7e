"""Checks of the indices and ids for which predictions are requested."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.data.id_map import IdMap
from dmf_fast.data.raw_ids import as_list
from dmf_fast.observations.validation import read_indices


def checked_indices(name: str, given: Any, size: int, *, unknown: bool = False) -> Tensor:
    """Return indices of rows or columns as a new int64 tensor on the CPU, ``(len,)``.

    Args:
        name: name of the argument in errors.
        given: integers from 0 to ``size - 1``, shape ``(len,)``: an array, a tensor or a list.
        size: number of rows or columns.
        unknown: whether -1, an id that the model does not know, is also allowed.

    Raises:
        TypeError: the indices are not integers.
        ValueError: they are not one-dimensional.
        IndexError: an index is out of range.

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


def filter_indices(name: str, given: Any, ids: IdMap) -> NDArray[np.int64]:
    """Return the indices of the ids of an item filter, -1 for ids that the model does not know.

    A `UserWarning` counts the unknown ids.

    >>> filter_indices("exclude", ["b", "a"], IdMap(["a", "b"])).tolist()
    [1, 0]
    """
    indices = ids.indices(given)
    warn_of_unknown(name, given, indices, "are ignored", stacklevel=5)
    return indices


def warn_of_unknown(
    name: str, given: Any, indices: NDArray[np.int64], what_they_do: str, *, stacklevel: int
) -> None:
    """Issue a `UserWarning` that counts the unknown ids of the argument ``name``, those with index -1.

    >>> warn_of_unknown("ids", ["a"], np.array([0]), "are ignored", stacklevel=2)
    """
    unknown = indices < 0
    if unknown.any():
        first = as_list(given[int(unknown.argmax()) :][:1])[0]
        warnings.warn(
            f"{unknown.sum()} of {len(indices)} ids of `{name}`, such as {first!r}, are unknown to the model "
            f"and {what_they_do}.",
            UserWarning,
            stacklevel=stacklevel,
        )
