"""What a model is and how a run trains it: every option, its meaning and its default."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmf_fast.checks import settle_not_negative, settle_whole_number
from dmf_fast.completion.optimizers import OPTIMIZERS
from dmf_fast.completion.schedules import SCHEDULES
from dmf_fast.initialization import INITIALIZATIONS
from dmf_fast.training import FitOptions

CHOICES = {
    "initialization": tuple(INITIALIZATIONS),
    "coordinates": ("scaled", "plain"),
    "optimizer": tuple(OPTIMIZERS),
    "schedule": tuple(SCHEDULES),
}
"""What the settings that are words may be."""


@dataclass(frozen=True)
class RunSettings:
    """What a model is and how it is trained; the duration and the stopping are in `FitOptions`.

    The defaults are for ratings. They were chosen on MovieLens 100K, by validation entries of several splits,
    and are in units that carry over to other sizes and scales of values.

    Attributes:
        depth: number of factors.
        hidden: width between the factors; None for ``min(m, n)``, as in the paper.
        init_scale: size at the start: in scaled coordinates about that of an entry of the product, beside the
            spread of the values; in plain ones that of the product, see `dmf_fast.initialization.initialize`.
        initialization: how the factors start.
        bias: whether rows and columns have biases.
        centre: whether the mean of the training values is added to every prediction.
        coordinates: ``"scaled"`` trains a `ScaledFactorization`; ``"plain"`` the factors themselves, as in
            the paper.
        degree_exponent: of the scales: from 0, where every entry of the factors moves alike, to 1, where
            every row and column does, whatever its number of entries.
        optimizer: a key of `OPTIMIZERS`.
        lr: its learning rate. None for 0.5 with ``"adaptive-gd"``, half of the steps that it finds by itself,
            and for 0.04 √(m + n) with ``"group-rmsprop"`` in scaled coordinates, whose step has this length.
        weight_decay: of the factors, in units of `noise_level`: below 1 the decay is smaller than what noise
            alone would pull. Without scaled coordinates it is torch's own.
        bias_weight_decay: that of the biases; None for the same.
        schedule: a key of `SCHEDULES`: how the learning rate goes over the steps of `FitOptions`.
        warmup: steps over which the learning rate rises from 0.
        seed: of the start.

    Raises:
        ValueError: an option is out of range or unknown.
        TypeError: a number is not one, or a whole number not whole.

    Example:
        >>> RunSettings(depth=3).optimizer
        'adaptive-gd'

    """

    depth: int = 2
    hidden: int | None = 64
    init_scale: float = 2e-5
    initialization: str = "gaussian"
    bias: bool = True
    centre: bool = True
    coordinates: str = "scaled"
    degree_exponent: float = 0.4
    optimizer: str = "adaptive-gd"
    lr: float | None = None
    weight_decay: float = 0.13
    bias_weight_decay: float | None = None
    schedule: str = "constant"
    warmup: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        settle_whole_number(self, "depth", least=1)
        settle_whole_number(self, "warmup", least=0)
        settle_whole_number(self, "seed", least=0)
        settle_not_negative(self, "init_scale", "lr", "weight_decay", "bias_weight_decay", "degree_exponent")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, but {getattr(self, name)!r} came."
                )
        if self.degree_exponent > 1:
            raise ValueError(f"degree_exponent must be at most 1, but {self.degree_exponent} came.")
        scaled_rmsprop = self.optimizer == "group-rmsprop" and self.coordinates == "scaled"
        if self.lr is None and self.optimizer != "adaptive-gd" and not scaled_rmsprop:
            raise ValueError(
                f"lr must be given for the optimizer {self.optimizer!r}; only adaptive-gd needs none."
            )


@dataclass(frozen=True)
class CompletionOptions:
    """A whole job: a run that is stopped by validation entries, and another one on all entries.

    Attributes:
        run: the model and its training.
        fit: duration and stopping of the run.
        validation_fraction: part of the entries that chooses the best step, from 0 to below 1; 0 for none.
        refit: whether to train again on all entries, up to the train loss of the best step.

    Raises:
        ValueError: ``validation_fraction`` is out of range.
        TypeError: it is no number.

    Example:
        >>> CompletionOptions(refit=False).fit.evaluate_every
        1

    """

    run: RunSettings = field(default_factory=RunSettings)
    fit: FitOptions = field(
        default_factory=lambda: FitOptions(steps=5_000, evaluate_every=1, patience=20, seed=0)
    )
    validation_fraction: float = 0.05
    refit: bool = True

    def __post_init__(self) -> None:
        settle_not_negative(self, "validation_fraction")
        if self.validation_fraction >= 1:
            raise ValueError(f"validation_fraction must be below 1, but {self.validation_fraction} came.")
