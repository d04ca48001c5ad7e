"""Chooses what makes the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dmf_fast.observations import Observations
from dmf_fast.training.block_engine import BlockEngine
from dmf_fast.training.cpu_engine import CpuEngine
from dmf_fast.training.descent_options import DescentOptions
from dmf_fast.training.engine import Engine
from dmf_fast.training.operator_engine import OperatorEngine
from dmf_fast.training.rules import Rule


def engine_for(factors: Sequence[Tensor], train: Observations, rule: Rule, options: DescentOptions) -> Engine:
    """Return native code on the CPU; on a GPU a block where the problem is one for it, else a CUDA graph.

    >>> import torch
    >>> from dmf_fast.training.rules import GradientDescent
    >>> train = Observations([0], [0], [1.0])
    >>> engine = engine_for([torch.eye(1)], train, GradientDescent(lr=0.1), DescentOptions())
    >>> type(engine).__name__
    'CpuEngine'
    """
    if train.device.type == "cpu":
        return CpuEngine(factors, train, rule, options)
    return BlockEngine.where_it_fits(factors, train, rule, options) or OperatorEngine(
        factors, train, rule, options
    )
