"""The starts of the runs of a job: a model before its first step, and its optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dmf_fast.completion.coordinates import Coordinates
from dmf_fast.completion.decay import DecayUnit
from dmf_fast.completion.gradient import LEADING, LeadingDirections, leading_directions
from dmf_fast.completion.optimizers import optimizer_spec
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.scaled_model import ScaledFactorization
from dmf_fast.completion.spectral import balanced_factors, product_directions, spectral_factors
from dmf_fast.distributed import initial_factors
from dmf_fast.evaluation.baselines import Biases, Shrinkage
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import mean_value
from dmf_fast.optim import OptimizerSpec
from dmf_fast.sharding import local_part, whole_tensor

# Fractions of the step of adaptive-gd: with full steps the loss sometimes rises, with halves hardly ever. A
# split product is soon at its best: shorter steps get closer to it, in the search and in as many steps of the
# refit.
_ADAPTIVE_RATE, _ADAPTIVE_RATE_OF_PRODUCT = 0.5, 0.25
# Step length of group-rmsprop relative to the square root of the number of rows and columns.
_RMSPROP_STEP = 0.04
# Singular values of a spectral start relative to the reference of the decay, at depth 2 and at depth 3 or
# more: small enough for the leading directions to get ahead.
_SHALLOW_START, _DEEP_START = 1e-4, 0.03
_ABOVE_SURVIVAL = 2.0  # also, at depth 3 or more: relative to the size that survives the decay
_MOST_ABOVE_NOISE = 10.0  # of a leading singular value, relative to the noise
# Multiples of the weight decay: for a start near zero to survive, and to remove the noise of a product.
_DEEP_DECAY, _PRODUCT_DECAY = 1.5, 2.3
# Largest unit of the decay of the biases, relative to their ridge penalty.
_MOST_OF_RIDGE = 15.0
# Passes over the entries until convergence: of the directions of a small start, of those of a large one, or
# of their median only.
_PASSES, _PASSES_OF_LBFGS, _PASSES_FOR_NOISE = 6, 3, 2


@dataclass(frozen=True)
class Phase:
    """One of the successive runs that lead to a model.

    Attributes:
        depth: of the factors.
        start: ``"spectral"``: along the leading singular vectors of the gradient, near zero; ``"product"``:
            the product of the phase before, split into balanced factors; or an initialization of small
            factors.

    """

    depth: int
    start: str

    @property
    def name(self) -> str:
        """The name in checkpoints and tables.

        >>> Phase(3, "product").name
        'depth-3-product'
        """
        return f"depth-{self.depth}-{self.start}"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Training entries, and what is computed from them before the first step.

    Attributes:
        train: the entries.
        validation: validation entries, or None.
        coordinates: of all models of the entries; None for plain ones.
        directions: in which the loss of the biases alone is steepest; None in plain coordinates.
        unit: of the weight decay near zero; that of torch in plain coordinates.
        biases: of the entries; those in the coordinates may come from other entries. None without biases.

    """

    train: Observations
    validation: Observations | None = None
    coordinates: Coordinates | None = None
    directions: LeadingDirections | None = None
    unit: DecayUnit = DecayUnit(1.0, 1.0)  # noqa: RUF009 (frozen)
    biases: Biases | None = None

    @classmethod
    def of(
        cls,
        train: Observations,
        validation: Observations | None,
        options: CompletionOptions,
        biases: Biases | None,
    ) -> Prepared:
        """Return the entries with their coordinates, given the biases."""
        if options.coordinates == "plain":
            return cls(train, validation)
        coordinates = Coordinates.of(train, options, biases)
        wanted = options.width(train.shape)
        count = max(LEADING, wanted) if options.start == "spectral" else LEADING
        passes = _PASSES_OF_LBFGS if options.begins_fast else _PASSES
        directions = leading_directions(
            coordinates.without_factors(), train, count, passes=passes, seed=options.seed
        )
        unit = DecayUnit.of_start(directions, coordinates)
        return cls(train, validation, coordinates, directions, unit, biases)


@dataclass(frozen=True, eq=False)
class Start:
    """A model before its first step.

    Attributes:
        phase: the phase that starts here.
        model: trained in place.
        unit: of its weight decay.
        optimizer: of its parameters.

    """

    phase: Phase
    model: DeepMatrixFactorization
    unit: DecayUnit
    optimizer: OptimizerSpec


def begin_descent(
    phase: Phase, prepared: Prepared, options: CompletionOptions, before: Start | None = None
) -> Start:
    """Return the start of a phase of gradient descent; see `dmf_fast.completion.phases.begin`."""
    if prepared.coordinates is None:
        return _plain_start(phase, prepared, options)
    if phase.start == "product":
        assert before is not None
        model, unit = _split_product(phase, prepared, before)
        return Start(phase, model, unit, _optimizer(phase, prepared, options, unit, _PRODUCT_DECAY))
    if phase.start == "spectral":
        model = _spectral_model(phase.depth, prepared, options)
    else:
        model = _small_model(phase, prepared, options)
    decay = _DEEP_DECAY if phase.start == "spectral" and phase.depth > 2 else 1.0
    return Start(phase, model, prepared.unit, _optimizer(phase, prepared, options, prepared.unit, decay))


def _spectral_model(depth: int, prepared: Prepared, options: CompletionOptions) -> ScaledFactorization:
    """Return factors along the leading directions of the gradient, with sizes that follow its squares."""
    coordinates, directions = prepared.coordinates, prepared.directions
    assert coordinates is not None
    assert directions is not None
    chosen = directions.first(options.width(coordinates.shape))
    noise = directions.noise or 1.0
    above_noise = (chosen.values / noise).clamp(max=_MOST_ABOVE_NOISE)
    size = _SHALLOW_START
    if depth > 2:
        survives = prepared.unit.least_surviving(_DEEP_DECAY * options.weight_decay, noise, depth)
        size = _DEEP_START + _ABOVE_SURVIVAL * survives
    sizes = size * prepared.unit.reference * above_noise**2
    return coordinates.model(balanced_factors(chosen, sizes, depth, coordinates.sharding))


def _small_model(phase: Phase, prepared: Prepared, options: CompletionOptions) -> ScaledFactorization:
    """Return factors from an initialization of the paper."""
    coordinates = prepared.coordinates
    assert coordinates is not None
    rows, columns = coordinates.shape
    widths = [options.width(coordinates.shape)] * (phase.depth - 1)
    scale = options.small_scale * math.sqrt(max(rows, columns))
    factors = initial_factors(prepared.train, (columns, *widths, rows), scale, phase.start, seed=options.seed)
    return coordinates.model([*map(whole_tensor, factors[:-1]), local_part(factors[-1])])


def _split_product(phase: Phase, prepared: Prepared, before: Start) -> tuple[ScaledFactorization, DecayUnit]:
    """Return the model of the phase before in balanced factors, and the unit of their decay.

    The first split measures the unit; later phases keep it, as their products no longer contain noise.
    """
    coordinates = prepared.coordinates
    assert coordinates is not None
    product = product_directions(before.model, prepared.train.sharding)
    unit = before.unit
    if before.phase.start != "product":
        steepest = leading_directions(before.model, prepared.train, LEADING, passes=_PASSES_FOR_NOISE)
        unit = prepared.unit.of_product(steepest, product.values)
    row_bias, column_bias = before.model.row_bias, before.model.column_bias
    learned = None
    if row_bias is not None and column_bias is not None:
        learned = (local_part(row_bias.detach()), local_part(column_bias.detach()))
    factors = balanced_factors(product, product.values, phase.depth)
    return coordinates.model(factors, learned), unit


def _plain_start(phase: Phase, prepared: Prepared, options: CompletionOptions) -> Start:
    train = prepared.train
    (rows, columns), hidden = train.shape, options.width(train.shape)
    mean = mean_value(train) if options.center else 0.0
    if phase.start == "spectral":
        factors = spectral_factors(
            train, hidden, phase.depth, options.small_scale, mean=mean, seed=options.seed
        )
    else:
        dims = (columns, *[hidden] * (phase.depth - 1), rows)
        factors = initial_factors(train, dims, options.small_scale, phase.start, seed=options.seed)
    model = DeepMatrixFactorization.of_factors(factors, bias=options.bias)
    model.mean.fill_(mean)
    decays = (options.weight_decay, options.bias_weight_decay)
    optimizer = optimizer_spec(_name(options), _rate(phase, options, train), *decays)
    return Start(phase, model, prepared.unit, optimizer)


def _optimizer(
    phase: Phase, prepared: Prepared, options: CompletionOptions, unit: DecayUnit, times: float
) -> OptimizerSpec:
    return optimizer_spec(
        _name(options),
        _rate(phase, options, prepared.train),
        options.weight_decay * times * unit.at_depth(phase.depth) * of_loss(prepared, options),
        bias_decay(prepared, options),
    )


def bias_decay(prepared: Prepared, options: CompletionOptions) -> float:
    """Return the weight decay of the biases, in all phases in the unit of the start.

    The pull of noise grows with the numbers of ratings of rows and columns, and the shrinkage that suits
    biases does not. At the default decay it is at most twice that of the ridge regression.
    """
    assert prepared.coordinates is not None
    decay = options.weight_decay if options.bias_weight_decay is None else options.bias_weight_decay
    # Biases of any shrinkage are scaled such that the decay of the default one suits them.
    ridge = 2 * Shrinkage().rows * prepared.coordinates.spread**2 / prepared.train.total_weight
    unit = min(prepared.unit.noise, _MOST_OF_RIDGE * ridge) * ScaledFactorization.BIAS_SCALE**2
    return decay * unit * of_loss(prepared, options)


def of_loss(prepared: Prepared, options: CompletionOptions) -> float:
    """Return the factor that turns a decay for the mean loss into one for the loss of a step."""
    return prepared.train.total_weight / options.fit.batches if options.fit.reduction == "sum" else 1.0


def _name(options: CompletionOptions) -> str:
    """Return the optimizer of phases that L-BFGS does not run."""
    return "adaptive-gd" if options.optimizer == "lbfgs" else options.optimizer


def _rate(phase: Phase, options: CompletionOptions, train: Observations) -> float:
    if options.lr is not None and options.optimizer != "lbfgs":
        return options.lr
    if _name(options) == "adaptive-gd":
        return _ADAPTIVE_RATE_OF_PRODUCT if phase.start == "product" else _ADAPTIVE_RATE
    return _RMSPROP_STEP * math.sqrt(sum(train.shape))
