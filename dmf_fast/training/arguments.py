"""Checks of the arguments of `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.observations.validation import move_advice
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.sharding import is_dtensor, is_sharded, local_part
from dmf_fast.training.measures import Measures
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording


def model_of(model: DeepMatrixFactorization | Sequence[Tensor]) -> DeepMatrixFactorization:
    """Return the model, or a model whose parameters share the memory of bare factors.

    >>> model_of([torch.eye(2)]).shape
    (2, 2)
    """
    if isinstance(model, DeepMatrixFactorization):
        return model
    if not isinstance(model, (list, tuple, torch.nn.ParameterList)):
        raise TypeError(
            "`model` must be a dmf_fast.DeepMatrixFactorization or a list of factors [W_1, …, W_N], got "
            f"{type(model).__name__}"
        )
    return DeepMatrixFactorization.of_factors(list(model))


def bound_or_spec(optimizer: Any) -> torch.optim.Optimizer | OptimizerSpec:
    """Return an optimizer that is bound to parameters as it is, or the spec of a callable.

    >>> bound_or_spec(torch.optim.SGD).name
    'SGD'
    """
    return optimizer if isinstance(optimizer, torch.optim.Optimizer) else OptimizerSpec.of(optimizer)


def check_fit(
    model: DeepMatrixFactorization,
    train: Observations,
    optimizer: torch.optim.Optimizer | OptimizerSpec,
    measures: Measures,
    options: FitOptions,
    given: Sequence[Tensor] | None = None,
) -> None:
    """Raise what `fit` raises for its arguments; ``given`` are the factors if no model was given."""
    _check_types(train, measures, options)
    name = "model.factors" if given is None else "factors"
    for place, factor in enumerate(model.factors):
        _check_factor(f"{name}[{place}]", factor, train)
    _check_memory([local_part(factor.detach()) for factor in model.factors])
    if model.shape != train.shape:
        raise ValueError(
            f"`train` must have the shape of the product of the factors, {model.shape}, got {train.shape}"
        )
    if train.total_weight == 0:
        raise ValueError("`train` must hold an entry with a weight above zero, got none")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("`model` must have a parameter that requires a gradient, got none")
    _check_truth(measures.truth)
    measures.check_shapes(model.shape)
    _check_devices(measures, train.device)
    if measures.validation is not None and measures.validation.total_weight == 0:
        raise ValueError("`validation` must hold an entry with a weight above zero, or be None, got none")
    if measures.validation is None and options.patience is not None:
        raise ValueError(
            "`patience` must be None without a validation set, got "
            f"{options.patience}; pass validation=... too"
        )
    _check_sharding(model, train, measures)
    if isinstance(optimizer, torch.optim.Optimizer):
        _check_bound(optimizer, list(model.parameters()) if given is None else given)


def checked_callbacks(callbacks: Any) -> tuple[Callable[..., Any], ...]:
    """Return the callbacks; raise a `TypeError` if they are not functions.

    >>> checked_callbacks([print])
    (<built-in function print>,)
    """
    if not isinstance(callbacks, Iterable) or not all(map(callable, given := tuple(callbacks))):
        raise TypeError(f"`callbacks` must be a list of functions, got {callbacks!r}")
    return given


def _check_types(train: Observations, measures: Measures, options: FitOptions) -> None:
    expected: list[tuple[str, Any, type, bool]] = [
        ("train", train, Observations, False),
        ("validation", measures.validation, Observations, True),
        ("test", measures.test, Observations, True),
        ("options", options, FitOptions, False),
        ("recording", measures.recording, Recording, False),
    ]
    for name, given, kind, may_be_none in expected:
        if not (isinstance(given, kind) or (may_be_none and given is None)):
            raise TypeError(f"`{name}` must be dmf_fast.{kind.__name__}, got {type(given).__name__}")


def _check_sharding(model: DeepMatrixFactorization, train: Observations, measures: Measures) -> None:
    sharding = train.sharding
    if sharding.mesh is not None and not is_sharded(model.factors[-1]):
        raise ValueError(
            "`model` must have sharded parameters if processes share the rows, got all rows; make its "
            "factors with dmf_fast.distributed.initial_factors"
        )
    if sharding.mesh is None and is_dtensor(model.factors[-1]):
        raise ValueError(
            "`train` must be dmf_fast.distributed.RowBlocks if the factors are DTensors, got the entries of "
            "one process"
        )
    if not sharding.is_whole and measures.truth is not None:
        raise ValueError("`truth` must be None if processes share the rows, got a whole matrix")
    for name in ("validation", "test"):
        other = getattr(measures, name)
        if other is not None and (other.sharding.mesh, other.sharding.part_count) != (
            sharding.mesh,
            sharding.part_count,
        ):
            raise ValueError(
                f"`{name}` must be distributed like `train`; use blocks of the same rows, such as those of "
                "train.split"
            )


def _check_bound(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    own = {id(parameter) for parameter in parameters}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("`optimizer` must hold parameters of the model, got one of other parameters")


def _check_factor(name: str, factor: Tensor, train: Observations) -> None:
    if factor.is_inference():
        raise ValueError(
            f"`{name}` must not be an inference tensor, which cannot be changed outside of "
            "torch.inference_mode(); clone it outside of that mode (a model: copy.deepcopy)"
        )
    if factor.dtype != train.dtype:
        raise TypeError(
            f"`{name}` must have the dtype of the observations, {train.dtype}, got {factor.dtype}; use "
            f"observations.to(dtype={factor.dtype})"
        )
    if factor.device != train.device:
        raise ValueError(
            f"`{name}` must be on the device of the observations, {train.device}, got {factor.device}; "
            f"{move_advice(factor.device)}"
        )
    if not (factor.is_contiguous() or factor.T.is_contiguous()) and _coincide(factor):
        raise ValueError(
            f"the elements of `{name}` must not share memory, since it is changed in place, got a tensor "
            f"with repeated elements, such as an expanded one; use {name}.clone()"
        )


def _check_memory(factors: Sequence[Tensor]) -> None:
    for (place, one), (other_place, other) in combinations(enumerate(factors), 2):
        (begin, end), (other_begin, other_end) = _span(one), _span(other)
        if begin < other_end and other_begin < end and _coincide(one, other):
            raise ValueError(
                "`factors` must not share memory, since they are changed in place, got "
                f"factors[{place}] and factors[{other_place}] that do; use .clone()"
            )


def _span(matrix: Tensor) -> tuple[int, int]:
    """Return the range of addresses of a matrix."""
    begin, size = matrix.data_ptr(), matrix.element_size()
    steps = zip(matrix.shape, matrix.stride(), strict=True)
    reach = sum((count - 1) * stride for count, stride in steps)
    return begin, begin + (reach + 1) * size if matrix.numel() else begin


def _coincide(*matrices: Tensor) -> bool:
    """Return whether any two elements of the matrices have the same address."""
    addresses = torch.cat([_addresses(matrix) for matrix in matrices])
    return len(torch.unique(addresses)) < len(addresses)


def _addresses(matrix: Tensor) -> Tensor:
    size = matrix.element_size()
    rows, columns = (
        torch.arange(count, device="cpu") * (stride * size)
        for count, stride in zip(matrix.shape, matrix.stride(), strict=True)
    )
    return (matrix.data_ptr() + rows[:, None] + columns).reshape(-1)


def _check_truth(truth: Tensor | None) -> None:
    if truth is None:
        return
    if not isinstance(truth, Tensor):
        raise TypeError(f"`truth` must be a tensor, got {type(truth).__name__}; use torch.as_tensor(truth)")
    if truth.dtype == torch.bool or truth.is_complex():
        raise TypeError(f"`truth` must hold real numbers, got {truth.dtype}; use truth.to(torch.float64)")


def _check_devices(measures: Measures, device: torch.device) -> None:
    for name in ("validation", "test"):
        other = getattr(measures, name)
        if other is not None and other.device != device:
            raise ValueError(
                f"`{name}` must be on the device of the factors, {device}, got {other.device}; "
                f"use {name}.to({str(device)!r})"
            )
