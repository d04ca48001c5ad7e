"""The fast phase of a job: L-BFGS at depth 2, with a decay that falls until the validation error rises.

It starts along the leading directions of the gradient, at the best length, with a decay that few of them
survive. The decay falls from step to step, and weaker directions return one after the other, as they appear
in gradient descent from a small start, but within a few steps. `docs/theory.md` says why the decay is
concave.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from dmf_fast.completion.decay import DecayUnit
from dmf_fast.completion.gradient import LeadingDirections
from dmf_fast.completion.optimizers import optimizer_spec
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.scaled_model import ScaledFactorization
from dmf_fast.completion.spectral import balanced_factors
from dmf_fast.completion.starts import Phase, Prepared, Start, bias_decay, of_loss
from dmf_fast.evaluation.baselines import Biases
from dmf_fast.observations import Observations
from dmf_fast.ops.sharded import chains_of_parts
from dmf_fast.optim import OptimizerSpec, loss_curvature
from dmf_fast.training import FitOptions

# Decay of the first step, near zero, as a multiple of the weight decay; few directions survive it.
_FIRST_DECAY = 3.9
# Factor of the decay from step to step, after the first ones.
_DECAY_RATE, _DECAY_AFTER = 0.9, 4
# Exponent of the decay, that of depth 2.5, above the knee, which is a fraction of the unit's reference.
_CONCAVITY, _KNEE = 0.2, 0.3
# Rows count for the patience once the decay is below this, in units of noise; the fraction of the patience
# that applies from there.
_SEARCHED_TO, _SOONER = 0.32, 6
# Singular values of the gradient: the contribution of noise, in the unit, and the smallest relative to the
# first.
_ADDED_BY_NOISE, _LEAST_SIZE = 0.25, 0.02


def is_fast(phase: Phase, options: CompletionOptions) -> bool:
    """Return whether L-BFGS runs a phase: at depth 2 from a spectral start, with a decay that can fall."""
    return phase == Phase(2, "spectral") and options.begins_fast


def fast_options(options: CompletionOptions, fit: FitOptions) -> FitOptions:
    """Return the options of the phase in the search: its steps are few and long."""
    above = _FIRST_DECAY * options.weight_decay / _SEARCHED_TO
    least = _DECAY_AFTER + max(0, math.ceil(math.log(above) / -math.log(_DECAY_RATE)))
    if fit.patience is None:  # no validation entries tell when the decay is low enough
        return replace(fit, steps=min(fit.steps, least))
    least = max(least, fit.patience_after)
    return replace(fit, patience=max(1, fit.patience // _SOONER), patience_after=least)


def fast_start(phase: Phase, prepared: Prepared, options: CompletionOptions) -> Start:
    """Return the start of the phase: along the leading directions, at the length with the lowest loss."""
    coordinates, directions = prepared.coordinates, prepared.directions
    assert coordinates is not None
    assert directions is not None
    chosen = directions.first(options.width(coordinates.shape))
    model = coordinates.model(balanced_factors(chosen, _sizes(chosen, prepared), depth=2))
    return Start(phase, model, prepared.unit, _optimizer(model, prepared, options))


def warm_start(before: Start, whole: Prepared, options: CompletionOptions, step: int) -> Start:
    """Return the model of a search after ``step`` steps, with the decay at that step."""
    model = deepcopy(before.model)
    assert isinstance(model, ScaledFactorization)
    return Start(before.phase, model, whole.unit, _optimizer(model, whole, options, after=step))


def prepared_warm(observed: Observations, found_on: Prepared, biases: Biases | None) -> Prepared:
    """Return all entries in the coordinates of a search, with the unit adjusted to their number."""
    unit, more = found_on.unit, math.sqrt(found_on.train.total_weight / observed.total_weight)
    unit = DecayUnit(unit.noise * more, unit.reference * more)
    return Prepared(observed, None, found_on.coordinates, None, unit, biases)


def _sizes(directions: LeadingDirections, prepared: Prepared) -> Tensor:
    """Return the singular values of the best product along these directions."""
    values = directions.values
    pulls = (values - _ADDED_BY_NOISE * prepared.unit.noise).clamp(min=_LEAST_SIZE * values[0].item())
    slope = (values.double() @ pulls.double()).item()
    curvature = _mean_square(directions, pulls, prepared)
    return pulls * (slope / (2 * curvature) if curvature else 0.0)


@torch.no_grad()
def _mean_square(directions: LeadingDirections, values: Tensor, prepared: Prepared) -> float:
    """Return the mean square of a product over the entries."""
    coordinates, train = prepared.coordinates, prepared.train
    assert coordinates is not None
    model = coordinates.model(balanced_factors(directions, values, depth=2))
    factors = model.chain_and_biases()[0]
    squares = []
    for part, (first, last), _, _ in chains_of_parts(factors, train, None, None):
        layout = part.layout()
        loss = torch.ops.dmf_fast.completion_loss_forward(
            last.contiguous(),
            first.T.contiguous(),
            layout.buffer,
            torch.zeros_like(layout.values),
            layout.weights,
            1.0,
        )
        squares.append(loss.item())
    return train.sharding.total_of(squares) / train.total_weight


def _optimizer(
    model: ScaledFactorization, prepared: Prepared, options: CompletionOptions, *, after: int | None = None
) -> OptimizerSpec:
    """Return L-BFGS with the falling decay, or with its fixed value ``after`` that many steps."""
    train, unit = prepared.train, prepared.unit
    curvature, of_biases = loss_curvature(model, train, options.fit.reduction)
    decay = _FIRST_DECAY * options.weight_decay * unit.noise * of_loss(prepared, options)
    if after is not None:
        decay *= _DECAY_RATE ** max(0, after - _DECAY_AFTER)
    lr = 1.0 if options.lr is None else options.lr
    spec = optimizer_spec("lbfgs", lr, decay, bias_decay(prepared, options))
    found = {
        "decay_rate": _DECAY_RATE if after is None else 1.0,
        "decay_after": _DECAY_AFTER,
        "concavity": _CONCAVITY,
        "knee": _KNEE * unit.reference or 1.0,
        "curvature": curvature,
    }
    return OptimizerSpec(
        spec.optimizer, {**spec.options, **found}, {**spec.bias_options, "curvature": of_biases}
    )
