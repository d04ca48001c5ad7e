"""Where the training of a model of ratings begins: the model before its first step, and its optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dmf_fast.completion.optimizers import optimizer_spec
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.scaled_model import ScaledFactorization
from dmf_fast.completion.scales import degree_scales, mean_value, noise_level, spread
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.optim import OptimizerSpec

# Of adaptive-gd: with whole steps the loss rises now and then, with halves it hardly does.
_ADAPTIVE_RATE = 0.5
# Length of a step of group-rmsprop compared with the root of the number of rows and columns.
_RMSPROP_STEP = 0.04


@dataclass(frozen=True)
class Start:
    """A model before its first step, and its optimizer in the model's own units."""

    model: DeepMatrixFactorization
    optimizer: OptimizerSpec


def gaussian_start(options: CompletionOptions, train: Observations) -> Start:
    """Return a small random start, in the coordinates that ``options`` names.

    >>> train = Observations([0, 1], [0, 1], [1.0, 3.0])
    >>> gaussian_start(CompletionOptions(), train).model.mean
    tensor(2.)
    """
    mean = mean_value(train) if options.center else 0.0
    start = (
        _plain_start(options, train)
        if options.coordinates == "plain"
        else _scaled_start(options, train, mean)
    )
    start.model.mean.fill_(mean)
    return start


def _plain_start(options: CompletionOptions, train: Observations) -> Start:
    model = DeepMatrixFactorization(
        train.shape,
        options.depth,
        options.hidden,
        options.init_scale,
        options.initialization,
        bias=options.bias,
        seed=options.seed,
        dtype=train.dtype,
        device=train.device,
    )
    decays = (options.weight_decay, options.bias_weight_decay)
    return Start(model, optimizer_spec(options.optimizer, _rate(options, train), *decays))


def _scaled_start(options: CompletionOptions, train: Observations, mean: float) -> Start:
    rows, columns = degree_scales(train, options.degree_exponent)
    value_scale = spread(train, mean)
    model = ScaledFactorization(
        rows,
        columns,
        value_scale,
        options.depth,
        options.hidden,
        options.init_scale * math.sqrt(max(train.shape)),
        options.initialization,
        bias=options.bias,
        seed=options.seed,
        dtype=train.dtype,
    ).to(train.device)
    unit = noise_level(train, rows, columns, value_scale)
    if options.fit.reduction == "sum":
        unit *= train.total_weight / options.fit.batches
    bias_decay = options.weight_decay if options.bias_weight_decay is None else options.bias_weight_decay
    decays = (options.weight_decay * unit, bias_decay * unit * ScaledFactorization.BIAS_SCALE**2)
    return Start(model, optimizer_spec(options.optimizer, _rate(options, train), *decays))


def _rate(options: CompletionOptions, train: Observations) -> float:
    if options.lr is not None:
        return options.lr
    adaptive = options.optimizer == "adaptive-gd"
    return _ADAPTIVE_RATE if adaptive else _RMSPROP_STEP * math.sqrt(sum(train.shape))
