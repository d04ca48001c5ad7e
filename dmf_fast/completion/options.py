"""Options of a rating model and its training, with their meanings and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dmf_fast.options import Option, Options
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording

Optimizer = Literal[
    "lbfgs", "adaptive-gd", "sgd", "momentum", "nesterov", "group-rmsprop", "rmsprop",
    "adam", "adamw", "nadam", "radam", "adagrad", "adamax",
]  # fmt: skip
Schedule = Literal["constant", "linear", "cosine"]
Initialization = Literal["spectral", "gaussian", "balanced", "orthogonal", "identity", "uniform"]
Coordinates = Literal["scaled", "plain"]


@dataclass(frozen=True)
class CompletionOptions(Options):
    """Options of a complete job: a search decided by validation entries, and a refit on all entries.

    The defaults suit ratings, in units that are measured on the training entries. They were chosen by
    validation and test errors on splits of MovieLens 100K and on synthetic ratings.

    Raises:
        ValueError: an option is out of range or unknown.
        TypeError: a value is not a number, or not an integer where one is needed.

    Example:
        >>> CompletionOptions(depth=3).fit.steps
        5000

    """

    depth: Annotated[
        int | Literal["auto"],
        Option(
            "Number of factors; auto: biases alone, 2, 3 or 4, chosen by the validation entries.",
            "Auto needs the spectral initialization; without validation entries it means 2.",
            least=1,
        ),
    ] = "auto"
    hidden: Annotated[
        int | Literal["auto"] | None,
        Option(
            "Width of the hidden layers; auto: 16, doubled until the chain no longer fills it.",
            "Auto needs plain coordinates, no biases and a spectral start; see `dmf_fast.completion.widths`.",
            least=1,
            none="``min(m, n)``, as in the paper",
        ),
    ] = 64
    init_scale: Annotated[
        float | None,
        Option(
            "Initial size: of the product; in scaled coordinates of an entry, relative to the values.",
            "In plain coordinates, see `dmf_fast.initialization.initialize`; all singular values of spectral "
            "starts have this size. In scaled ones, it is relative to the spread of the values and cannot be "
            "given for spectral starts, whose size is that of the gradient.",
            above=0,
            none="2e-5",
        ),
    ] = None
    initialization: Annotated[
        Initialization | None,
        Option(
            "Initialization of the factors; spectral: along the leading singular vectors of the residuals.",
            "The residuals are those of the biases; in plain coordinates those of the mean, and all singular "
            "values are equal at first. In scaled coordinates, with a weight decay and validation entries, "
            "spectral starts reach deeper models through depth 2; other starts have full depth at once.",
            none="spectral in scaled coordinates or for an automatic width, else gaussian",
        ),
    ] = None
    bias: Annotated[bool, Option("Learn a bias for every row and column.")] = True
    center: Annotated[
        bool,
        Option("Subtract the mean of the training values.", "It is added to predictions."),
    ] = True
    coordinates: Annotated[
        Coordinates,
        Option(
            "Coordinates of gradient descent: scaled by the numbers of ratings, or plain, as in the paper."
        ),
    ] = "scaled"
    degree_exponent: Annotated[
        float,
        Option(
            "Strength of the scaling of the coordinates.",
            "With 0, all entries of the factors move at the same rate; with 1, all rows and columns do, "
            "whatever their numbers of entries.",
            least=0,
            most=1,
        ),
    ] = 0.4
    optimizer: Annotated[
        Optimizer,
        Option(
            "Update rule; lbfgs is for depth 2 from a spectral start with a decay, otherwise adaptive-gd.",
            "L-BFGS takes a tenth of the steps with slightly larger errors; see `dmf_fast.completion.FAST`.",
        ),
    ] = "adaptive-gd"
    lr: Annotated[
        float | None,
        Option(
            "Learning rate; lbfgs and adaptive-gd need none.",
            'With ``"lbfgs"``, it is the first step length of the line search, 1 by default. '
            'With ``"adaptive-gd"``, it is a fraction of the step found, 0.5 by default, or 0.25 after a '
            "product is split. Group RMSprop in scaled coordinates makes steps of this length, 0.04 √(m + n) "
            "by default.",
            above=0,
            none="that of the optimizer",
        ),
    ] = None
    weight_decay: Annotated[
        float,
        Option(
            "L2 decay of the factors; in scaled coordinates, in a unit for all depths.",
            "The unit is about the pull of noise, see `dmf_fast.completion.DecayUnit`; in plain coordinates, "
            "the decay is that of torch.",
            least=0,
        ),
    ] = 0.13
    bias_weight_decay: Annotated[
        float | None, Option("L2 decay of the biases.", least=0, none="as weight_decay")
    ] = None
    schedule: Annotated[Schedule, Option("Schedule of the learning rate.")] = "constant"
    warmup: Annotated[int, Option("Number of steps over which the learning rate rises from 0.", least=0)] = 0
    validation_fraction: Annotated[
        float,
        Option(
            "Fraction of the entries that a fold holds out to choose depth and best step; 0 for none.",
            "Small data sets have up to 10 folds; see `dmf_fast.completion.validation_folds`.",
            least=0,
            below=1,
        ),
    ] = 0.05
    refit: Annotated[bool, Option("Train again on all entries, for as long as was best.")] = True
    seed: Annotated[int, Option("Seed of the initialization and of the held-out entries.", least=0)] = 0
    device: Annotated[
        str, Option("Device of the training: cpu, cuda, or auto (cuda if there is a usable GPU).")
    ] = "auto"
    fit: FitOptions = FitOptions(steps=5_000, patience=20)  # noqa: RUF009 (frozen)
    recording: Recording = Recording(every=1, norms=False)  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.has_spectral_phases and self.init_scale is not None:
            raise ValueError(
                "`init_scale` must be None for the spectral initialization in scaled coordinates, which has "
                f"the size of the gradient, got {self.init_scale}; choose another initialization, such as "
                "'gaussian'"
            )
        if self.hidden == "auto" and (self.coordinates != "plain" or self.start != "spectral" or self.bias):
            raise ValueError(
                "`hidden` must be a number, got 'auto', which needs plain coordinates, a spectral "
                f"initialization and no biases; this job has {self.coordinates} coordinates, a {self.start} "
                f"initialization and {'' if self.bias else 'no '}biases; give a width such as 64"
            )
        scaled_rmsprop = self.optimizer == "group-rmsprop" and self.coordinates == "scaled"
        if self.lr is None and not self.finds_steps and not scaled_rmsprop:
            raise ValueError(
                f"`lr` must be given for the optimizer {self.optimizer!r}, got None; lbfgs needs none"
            )

    def check_depth(self) -> None:
        """Raise a `ValueError` if the depth is "auto" but the factors do not start as that requires."""
        if self.depth == "auto" and not self.has_spectral_phases:
            raise ValueError(
                f"`depth` must be a number if the factors start as {self.start!r} in {self.coordinates} "
                "coordinates, got 'auto', which needs scaled coordinates and the spectral initialization; "
                "give a depth such as 2"
            )

    @property
    def begins_fast(self) -> bool:
        """Whether L-BFGS runs the phase of depth 2, with a decay that can fall."""
        deep = self.depth == "auto" or self.depth > 1
        return self.optimizer == "lbfgs" and self.has_spectral_phases and self.weight_decay > 0 and deep

    @property
    def finds_steps(self) -> bool:
        """Whether the optimizer finds its step lengths, for which all steps must use the same entries."""
        return self.optimizer in ("lbfgs", "adaptive-gd")

    @property
    def small_scale(self) -> float:
        """Initial size, unless it is that of the gradient."""
        return 2e-5 if self.init_scale is None else self.init_scale

    @property
    def start(self) -> str:
        """Initialization of the factors, also if ``initialization`` is None."""
        if self.initialization is not None:
            return self.initialization
        return "spectral" if self.coordinates == "scaled" or self.hidden == "auto" else "gaussian"

    def width(self, shape: tuple[int, int]) -> int:
        """Return the width of the hidden layers; "auto" has been replaced by the width found before."""
        assert self.hidden != "auto"
        return self.hidden or min(shape)

    @property
    def has_spectral_phases(self) -> bool:
        """Whether factors start along the steepest directions, sized by the gradient, and may be split."""
        return self.start == "spectral" and self.coordinates == "scaled"


FAST = CompletionOptions(depth=2, hidden=48, optimizer="lbfgs")
"""Depth 2 by L-BFGS, in about 20 passes over the entries: a fraction of the time of the defaults, for a
slightly larger error. `bench/README.md` has the figures."""

PAPER = CompletionOptions(
    depth=3,
    hidden=100,
    init_scale=1e-3,
    bias=False,
    center=False,
    coordinates="plain",
    optimizer="group-rmsprop",
    lr=3e-3,
    weight_decay=0.0,
    validation_fraction=0.0,
    refit=False,
    fit=FitOptions(steps=40_000, train_loss_threshold=1e-6),
    recording=Recording(every=100, singular_values=10, norms=False),
)
"""The options for a 100 × 100 matrix in the setting of Arora, Cohen, Hu & Luo, 2019.

The initial scale and the learning rate are ours: with them, depths 2 and 3 differ clearly on every seed
tried.
"""
