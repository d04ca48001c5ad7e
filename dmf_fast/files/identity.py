"""Identities of jobs, which checkpoints, output folders and trials must match.

An identity is a dictionary of plain values, which may be nested; tensors are represented by their digest. Two
jobs are the same if their identities are equal.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dmf_fast.checks import printable, shortened

Identity = dict[str, Any]


def plain(value: Any) -> Any:
    """Convert a value to plain JSON values: dataclasses to dictionaries, tuples to lists, paths to strings.

    Tensors are converted to their digest, dtypes and devices to their name. Raises a `TypeError` for other
    types.

    >>> plain({"lr": 0.5, "shape": (2, 3), "start": torch.zeros(2)})["shape"]
    [2, 3]
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return sha256_of(value)
    if isinstance(value, (torch.dtype, torch.device, os.PathLike)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    raise TypeError(f"an identity must hold plain values and tensors, got {type(value).__name__}")


def first_difference(before: Any, now: Any, name: str = "") -> str | None:
    """Describe the first value in which two plain identities differ; return None if they are equal.

    The description is short and safe to print to a terminal.

    >>> first_difference({"rule": {"lr": 0.1, "decay": 0}}, {"rule": {"lr": 0.2, "decay": 1}})
    'rule.lr was 0.1 there and is 0.2 here'
    """
    if before == now:
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        for part in {**now, **before}:
            inner = f"{name}.{part}" if name else part
            difference = first_difference(before.get(part), now.get(part), inner)
            if difference is not None:
                return difference
    return f"{_shown(name)} was {_shown(before)} there and is {_shown(now)} here"


def _shown(value: Any) -> str:
    return shortened(printable(value))


def sha256_of(*tensors: Tensor) -> str:
    """Return the SHA-256 of the contents of tensors, concatenated.

    >>> sha256_of(torch.zeros(2)) == sha256_of(torch.zeros(1), torch.zeros(1))
    True
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of the elements of a tensor, without a copy if it is contiguous and on the CPU.

    >>> bytes_of(torch.ones(2, dtype=torch.int16)).tolist()
    [1, 0, 1, 0]
    """
    # as_strided, since a contiguous tensor may have strides in dimensions of size 0 or 1 that view rejects.
    whole = tensor.detach().cpu().contiguous()
    flat: memoryview = whole.as_strided((whole.numel(),), (1,)).view(torch.uint8).numpy().data
    return flat
