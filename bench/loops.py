"""The loops that `fit` replaces: the same steps, written in PyTorch as in research code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dmf_fast import Observations, completion_loss
from dmf_fast.optim import GroupRMSprop, OptimizerSpec


def torch_optimizer(spec: OptimizerSpec, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return the torch optimizer in its fastest form on a CPU."""
    fused = {} if spec.optimizer is GroupRMSprop else {"fused": True}
    return spec.optimizer(parameters, **spec.options, **fused)


def dense_loop(
    factors: Sequence[Tensor], train: Observations, spec: OptimizerSpec, truth: Tensor | None
) -> Callable[[], object]:
    """Return one iteration: product, train loss, backward, with a truth its test loss, update.

    As in the research code for the paper, torch forms the matrix, which is compared at the observed entries.
    """
    (rows, columns), values = train.coordinates(), train.values
    return _loop_over_products(
        factors, spec, truth, lambda product: (product[rows, columns] - values).square().mean()
    )


def operator_loop(
    factors: Sequence[Tensor], train: Observations, spec: OptimizerSpec
) -> Callable[[], object]:
    """Return one iteration of the same over `dmf_fast.completion_loss`, without a test loss."""
    parameters = [torch.nn.Parameter(factor.clone()) for factor in factors]
    optimizer = torch_optimizer(spec, parameters)

    def iteration() -> None:
        loss = completion_loss(parameters, train)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return iteration


def sensing_loop(
    factors: Sequence[Tensor], matrices: Tensor, values: Tensor, spec: OptimizerSpec, truth: Tensor
) -> Callable[[], object]:
    """Return one iteration as of `dense_loop`, for `matrices` of shape (k, m·n) that measure the product."""
    return _loop_over_products(
        factors, spec, truth, lambda product: (matrices @ product.flatten() - values).square().mean()
    )


def _loop_over_products(
    factors: Sequence[Tensor],
    spec: OptimizerSpec,
    truth: Tensor | None,
    train_loss: Callable[[Tensor], Tensor],
) -> Callable[[], object]:
    parameters = [torch.nn.Parameter(factor.clone()) for factor in factors]
    optimizer = torch_optimizer(spec, parameters)

    def iteration() -> None:
        product: Tensor = parameters[0]
        for factor in parameters[1:]:
            product = factor @ product
        loss = train_loss(product)
        optimizer.zero_grad()
        loss.backward()
        if truth is not None:
            with torch.no_grad():
                (product - truth).square().mean()
        optimizer.step()

    return iteration
