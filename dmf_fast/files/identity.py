"""What makes a job the one that a file belongs to: checkpoints, output folders and trials ask the same.

An identity is a dictionary of plain values, which may be nested; tensors stand in it by their digest. Jobs
are the same where their identities are equal.
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
    """Return a value as JSON would give it back: dataclasses as dictionaries, tuples as lists, paths as text.

    Tensors become their digest, dtypes and devices their name. Raises a `TypeError` for anything else.

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
    """Return which value differs first and how, in words; None where two plain identities are equal.

    The words are short and can be shown in a terminal, whatever the identities hold.

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
    return shortened(printable(str(value)))


def sha256_of(*tensors: Tensor) -> str:
    """Return the SHA-256 of what tensors hold, one after the other.

    >>> sha256_of(torch.zeros(2)) == sha256_of(torch.zeros(1), torch.zeros(1))
    True
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """Return what a tensor holds, element by element; of a contiguous one on the CPU the memory itself.

    >>> bytes_of(torch.ones(2, dtype=torch.int16)).tolist()
    [1, 0, 1, 0]
    """
    # By as_strided: a contiguous tensor may have strides, where widths are 0 or 1, that no view takes.
    whole = tensor.detach().cpu().contiguous()
    flat: memoryview = whole.as_strided((whole.numel(),), (1,)).view(torch.uint8).numpy().data
    return flat
