"""The plan of a step of `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.planner import Plan, plan_for
from dmf_fast.optim.spec import OptimizerLike
from dmf_fast.sharding import SHARDED_COLUMNS_FROM, is_sharded
from dmf_fast.training.arguments import bound_or_spec, model_of
from dmf_fast.training.engines.choice import engine_for
from dmf_fast.training.options import FitOptions


def explain(
    model: DeepMatrixFactorization | Sequence[Tensor],
    observations: Observations,
    optimizer: OptimizerLike | None = None,
    options: FitOptions = FitOptions(),  # noqa: B008 (frozen)
) -> Plan:
    """Return the plan of a loss or a training step; ``print`` shows it in words.

    Args:
        model: as for `dmf_fast.fit`.
        observations: the observed entries of an ``(m, n)`` matrix. For row blocks the plan also states how
            parameters are distributed (see `dmf_fast.distributed.initial_factors`) and what is communicated
            in a step.
        optimizer: as for `dmf_fast.fit`; if given, the plan also names the engine that makes the steps.
        options: of the run.

    Raises:
        TypeError, ValueError: as for `dmf_fast.fit`.

    Example:
        >>> import torch
        >>> observations = Observations([0, 1], [1, 0], [1.0, 2.0], shape=(2, 3))
        >>> explain([torch.ones(4, 3), torch.ones(2, 4)], observations, torch.optim.AdamW).engine
        'torch, since AdamW has no native step'

    """
    trained = model_of(model)
    plan = plan_for(list(trained.factors), observations, len(trained.biases))
    if observations.sharding.mesh is not None:
        plan = replace(plan, sharding=_sharding(trained, observations))
    if optimizer is None:
        return plan
    given = None if isinstance(model, DeepMatrixFactorization) else model
    return replace(plan, engine=engine_for(trained, observations, bound_or_spec(optimizer), options, given))


def _sharding(model: DeepMatrixFactorization, observations: Observations) -> str:
    """Describe how parameters are distributed and what each process sends in a step."""
    size, depth = observations.sharding.size, len(model.factors)
    first = "replicated"
    if depth > 1 and is_sharded(model.factors[0]):
        first = f"sharded by columns, since it has {SHARDED_COLUMNS_FROM:,} numbers or more"
    shared = sum(factor.numel() for factor in model.factors[:-1]) * observations.dtype.itemsize
    travels = 2 * (size - 1) / size * shared
    return (
        f"{size} processes: W_{depth} is sharded by rows, W_1 is {first}; each sends about "
        f"{travels / 1e6:.4g} MB in a step"
    )
