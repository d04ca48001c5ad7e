"""Lossless conversion of nested states to JSON values and a flat dictionary of tensors, and back."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dmf_fast.sharding import is_dtensor, local_part, placed_as


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Convert ``value`` to JSON values; its tensors go to ``tensors`` under names that begin with ``name``.

    Dictionaries with string or integer keys, lists, tuples, tensors, numbers, strings, booleans and None are
    supported. Raises a `TypeError` for other types.

    >>> tensors = {}
    >>> unpack(pack({0: (1.5, [None])}, "state", tensors), tensors)
    {0: (1.5, [None])}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        # A copy, since safetensors rejects shared memory. Of a DTensor, each process writes its part.
        own = local_part(value.detach()).clone().contiguous()
        tensors[name] = placed_as(own, value) if is_dtensor(value) else own.cpu()
        return {"tensor": name}
    if isinstance(value, list):
        return [pack(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": pack(list(value), name, tensors)}
    if isinstance(value, dict) and all(isinstance(key, (int, str)) for key in value):
        return {"items": [[key, pack(item, f"{name}.{key}", tensors)] for key, item in value.items()]}
    raise TypeError(
        f"{name} holds a {type(value).__name__}, which a checkpoint cannot store; it stores tensors, "
        "numbers, strings, lists, tuples and dictionaries of them"
    )


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Return what `pack` was given.

    Raises a `ValueError` or another error if ``packed`` is not a result of `pack` with these tensors.
    """
    left = dict(tensors)
    value = _unpacked(packed, left)
    if left:
        raise ValueError(f"the tensor {min(left)!r} is not used")
    return value


def _unpacked(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a value, removing its tensors from ``tensors``."""
    if isinstance(packed, list):
        return [_unpacked(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors.pop(content)
    if kind == "tuple":
        return tuple(_unpacked(content, tensors))
    if kind != "items":
        raise ValueError(f"{kind!r} is not a kind of value")
    return {key: _unpacked(item, tensors) for key, item in content}


def form_of(value: Any) -> Any:
    """Return the names, types and shapes of a nested state, without its values.

    >>> import torch
    >>> form_of({"root": torch.zeros(2), "steps": [3]})
    {'root': 'torch.float32 (2,)', 'steps': ['int']}
    """
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, dict):
        return {key: form_of(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [form_of(part) for part in value]
    return type(value).__name__
