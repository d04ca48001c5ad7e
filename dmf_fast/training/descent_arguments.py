"""What `descend` refuses, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from dmf_fast.chain import shape_of
from dmf_fast.observations import Observations
from dmf_fast.training.descent_options import DescentOptions
from dmf_fast.training.factor_measures import FactorMeasures


def check_descent(
    factors: Sequence[Tensor], train: Observations, measures: FactorMeasures, options: DescentOptions
) -> None:
    """Raise what `descend` raises for its arguments.

    >>> train = Observations([0], [0], [1.0])
    >>> check_descent([torch.eye(1)], train, FactorMeasures(), DescentOptions())
    """
    shape = shape_of(factors)
    for place, factor in enumerate(factors):
        _check_factor(f"factors[{place}]", factor, train)
    _check_memory(factors)
    if shape != train.shape:
        raise ValueError(f"train has shape {train.shape}, but the factors multiply to shape {shape}.")
    if train.total_weight == 0:
        raise ValueError("train must hold an entry with a weight above zero, but it holds none.")
    _check_truth(measures.truth)
    measures.check_shapes(shape)
    _check_devices(measures, train.device)
    if measures.validation is not None and measures.validation.total_weight == 0:
        raise ValueError("validation must hold an entry with a weight above zero, or be None; it holds none.")
    if measures.validation is None and options.patience is not None:
        raise ValueError(
            f"patience must be None where there is no validation set to be patient with, but "
            f"{options.patience} came; pass validation=... too."
        )


def _check_factor(name: str, factor: Tensor, train: Observations) -> None:
    if factor.dtype not in (torch.float32, torch.float64) or factor.dtype != train.dtype:
        raise TypeError(
            f"{name} must be float32 or float64, as the observations are, but "
            f"{factor.dtype} came with observations in {train.dtype}."
        )
    if factor.device != train.device:
        raise ValueError(
            f"{name} is on {factor.device}, but the observations are on {train.device}; "
            f"use observations.to({str(factor.device)!r})."
        )
    if not (factor.is_contiguous() or factor.T.is_contiguous()) and _coincide(factor):
        raise ValueError(
            f"{name} must have memory of its own for every number, as it is changed in place, "
            f"but a tensor came that repeats some, such as an expanded one; use {name}.clone()."
        )


def _check_memory(factors: Sequence[Tensor]) -> None:
    for (place, one), (other_place, other) in combinations(enumerate(factors), 2):
        (begin, end), (other_begin, other_end) = _span(one), _span(other)
        if begin < other_end and other_begin < end and _coincide(one, other):
            raise ValueError(
                f"factors must be different tensors, as each is changed in place, but factors[{place}] and "
                f"factors[{other_place}] share memory; use .clone()."
            )


def _span(matrix: Tensor) -> tuple[int, int]:
    """Return the addresses between which all numbers lie."""
    begin, size = matrix.data_ptr(), matrix.element_size()
    steps = zip(matrix.shape, matrix.stride(), strict=True)
    reach = sum((count - 1) * stride for count, stride in steps)
    return begin, begin + (reach + 1) * size if matrix.numel() else begin


def _coincide(*matrices: Tensor) -> bool:
    """Say whether two numbers of the matrices lie at one address."""
    addresses = torch.cat([_addresses(matrix) for matrix in matrices])
    return len(torch.unique(addresses)) < len(addresses)


def _addresses(matrix: Tensor) -> Tensor:
    size = matrix.element_size()
    rows, columns = (
        torch.arange(count) * (stride * size)
        for count, stride in zip(matrix.shape, matrix.stride(), strict=True)
    )
    return (matrix.data_ptr() + rows[:, None] + columns).reshape(-1)


def _check_truth(truth: Tensor | None) -> None:
    if truth is None:
        return
    if not isinstance(truth, Tensor):
        raise TypeError(
            f"truth must be a tensor, but a {type(truth).__name__} came; use torch.as_tensor(truth)."
        )
    if truth.dtype == torch.bool or truth.is_complex():
        raise TypeError(f"truth must hold real numbers, but {truth.dtype} came; use truth.to(torch.float64).")


def _check_devices(measures: FactorMeasures, device: torch.device) -> None:
    for name in ("validation", "test"):
        other = getattr(measures, name)
        if other is not None and other.device != device:
            raise ValueError(
                f"{name} is on {other.device}, but the factors are on {device}; "
                f"use {name}.to({str(device)!r})."
            )
