"""Models far from the entries, and runs of preconditioned L-BFGS on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.completion import ScaledFactorization
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import OptimizerSpec, PreconditionedLBFGS, loss_curvature
from dmf_fast.training import FitOptions, FitResult, fit

DECAY: dict[str, Any] = {
    "weight_decay": 0.02,
    "decay_rate": 0.95,
    "decay_after": 2,
    "concavity": 0.3,
    "knee": 0.5,
}


def model_of(
    train: Observations, h: int = 5, *, scaled: bool = False, bias: bool = True
) -> DeepMatrixFactorization:
    """A model of depth 2 that begins far from the entries, in its own or in scaled coordinates."""
    generator = torch.Generator().manual_seed(3)
    (m, n), dtype = train.shape, train.dtype

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    factors = [drawn(h, n) - 0.5, drawn(m, h) - 0.5]
    if scaled:
        scales = (1.0, 0.5) if bias else None
        return ScaledFactorization(factors, drawn(m) + 0.5, drawn(n) + 0.5, 1.5, scales)
    model = DeepMatrixFactorization((m, n), 2, h, bias=bias, seed=0, dtype=dtype)
    with torch.no_grad():
        for own, factor in zip(model.factors, factors, strict=True):
            own.copy_(factor)
    return model


def spec_of(model: DeepMatrixFactorization, train: Observations, **options: Any) -> OptimizerSpec:
    curvature, of_biases = loss_curvature(model, train)
    given = DECAY | options | {"curvature": curvature}
    return OptimizerSpec(PreconditionedLBFGS, given, {"weight_decay": 0.05, "curvature": of_biases})


def trained(
    train: Observations, engine: str, steps: int = 25, *, options: dict[str, Any] | None = None, **model: Any
) -> tuple[list[Tensor], FitResult]:
    own = model_of(train, **model)
    fitted = FitOptions(steps=steps, engine=engine)  # type: ignore[arg-type]
    result = fit(own, train, spec_of(own, train, **(options or {})), fitted)
    return [parameter.detach() for parameter in own.parameter_list], result
