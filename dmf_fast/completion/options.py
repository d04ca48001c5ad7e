"""What a model of ratings is and how a job trains it: every option, its meaning and its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dmf_fast.options import Option, Options
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording

Optimizer = Literal[
    "lbfgs", "adaptive-gd", "gd", "momentum", "nesterov", "group-rmsprop", "rmsprop",
    "adam", "adamw", "nadam", "radam", "adagrad", "adamax",
]  # fmt: skip
Schedule = Literal["constant", "linear", "cosine"]
Initialization = Literal["spectral", "gaussian", "balanced", "orthogonal", "identity", "uniform"]
Coordinates = Literal["scaled", "plain"]


@dataclass(frozen=True)
class CompletionOptions(Options):
    """A whole job: a search that validation entries decide, and training of what they chose on all entries.

    The defaults are for ratings, in units that are measured on the training entries. They were set on splits
    of MovieLens 100K and on synthetic ratings, by validation errors and by test errors.

    Raises:
        ValueError: an option is out of range or unknown.
        TypeError: a number is not one, or a whole number not whole.

    Example:
        >>> CompletionOptions(depth=3).fit.steps
        5000

    """

    depth: Annotated[
        int | Literal["auto"],
        Option(
            "Number of factors; auto: biases alone, 2, 3 or 4, as validation entries choose.",
            "Auto needs the spectral initialization. Without validation entries it is 2.",
            least=1,
        ),
    ] = "auto"
    hidden: Annotated[
        int | Literal["auto"] | None,
        Option(
            "Width between the factors; auto: 16, doubled until the chain no longer fills it.",
            "Auto needs plain coordinates, no biases and a spectral start; see `dmf_fast.completion.widths`.",
            least=1,
            none="``min(m, n)``, as in the paper",
        ),
    ] = 64
    init_scale: Annotated[
        float | None,
        Option(
            "Size of the start: of the product; in scaled coordinates of an entry, relative to the values.",
            "In plain coordinates see `dmf_fast.initialization.initialize`; all singular values of spectral "
            "starts have this size. In scaled ones it is relative to the spread of the values, and not for "
            "spectral starts, which have the size of the gradient.",
            above=0,
            none="2e-5",
        ),
    ] = None
    initialization: Annotated[
        Initialization | None,
        Option(
            "How the factors start; spectral: along the leading singular vectors of what biases leave.",
            "In scaled coordinates, with a weight decay and validation entries, spectral starts go through "
            "depth 2 to the depth that is asked for; the others begin at it. In plain coordinates, of what "
            "the mean leaves, all singular values begin alike.",
            none="spectral in scaled coordinates or for an automatic width, else gaussian",
        ),
    ] = None
    bias: Annotated[bool, Option("Learn a bias per row and column.")] = True
    center: Annotated[
        bool,
        Option(
            "Model differences from the mean.", "The mean of the training values is added to predictions."
        ),
    ] = True
    coordinates: Annotated[
        Coordinates,
        Option("Of gradient descent: scaled by the numbers of ratings, or plain, as in the paper."),
    ] = "scaled"
    degree_exponent: Annotated[
        float,
        Option(
            "How much the coordinates are scaled.",
            "With 0 every entry of the factors moves alike, with 1 every row and column does, whatever its "
            "number of entries.",
            least=0,
            most=1,
        ),
    ] = 0.4
    optimizer: Annotated[
        Optimizer,
        Option(
            "Update rule; lbfgs: of depth 2 from a spectral start with a decay, adaptive-gd of all others.",
            "L-BFGS takes a tenth of the steps and errs a little more, see `dmf_fast.completion.FAST`.",
        ),
    ] = "adaptive-gd"
    lr: Annotated[
        float | None,
        Option(
            "Learning rate; lbfgs and adaptive-gd need none.",
            'With ``"lbfgs"`` it is the length of the first trial of a step, 1 by default. '
            'With ``"adaptive-gd"`` it is a part of the step that is found, 0.5 by default, 0.25 where a '
            "product is split. Group RMSprop in scaled coordinates makes steps of this length, 0.04 √(m + n) "
            "by default.",
            above=0,
            none="that of the optimizer",
        ),
    ] = None
    weight_decay: Annotated[
        float,
        Option(
            "L2 decay of the factors; in scaled coordinates in a unit that fits all depths.",
            "The unit is about what noise pulls, see `dmf_fast.completion.DecayUnit`; in plain coordinates "
            "it is torch's own.",
            least=0,
        ),
    ] = 0.13
    bias_weight_decay: Annotated[
        float | None, Option("L2 decay of the biases.", least=0, none="as weight_decay")
    ] = None
    schedule: Annotated[Schedule, Option("How the learning rate goes over the steps.")] = "constant"
    warmup: Annotated[int, Option("Steps over which the learning rate rises from 0.", least=0)] = 0
    validation_fraction: Annotated[
        float,
        Option(
            "Part of the entries kept aside to choose depth and best step; 0 for none.",
            "Small sets have several such parts, see `dmf_fast.completion.validation_folds`.",
            least=0,
            below=1,
        ),
    ] = 0.05
    refit: Annotated[bool, Option("Train again on all entries, as long as was best.")] = True
    seed: Annotated[int, Option("Seed of the start and of the entries kept aside.", least=0)] = 0
    device: Annotated[
        str, Option("Where training runs: cpu, cuda, or auto: cuda where there is a usable GPU.")
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
                f"initialization and no biases; here are {self.coordinates} coordinates, a {self.start} "
                f"initialization and {'' if self.bias else 'no '}biases; give a width such as 64"
            )
        scaled_rmsprop = self.optimizer == "group-rmsprop" and self.coordinates == "scaled"
        if self.lr is None and not self.finds_steps and not scaled_rmsprop:
            raise ValueError(
                f"`lr` must be given for the optimizer {self.optimizer!r}, got None; lbfgs needs none"
            )

    def check_depth(self) -> None:
        """Raise a `ValueError` where the depth is to be found, but the factors do not begin as that needs."""
        if self.depth == "auto" and not self.has_spectral_phases:
            raise ValueError(
                f"`depth` must be a number where the factors start as {self.start!r} in {self.coordinates} "
                "coordinates, got 'auto', which needs scaled coordinates and the spectral initialization; "
                "give a depth such as 2"
            )

    @property
    def begins_fast(self) -> bool:
        """Whether L-BFGS runs the phase of depth 2, along a decay that can fall."""
        deep = self.depth == "auto" or self.depth > 1
        return self.optimizer == "lbfgs" and self.has_spectral_phases and self.weight_decay > 0 and deep

    @property
    def finds_steps(self) -> bool:
        """Whether the optimizer finds the length of its steps, which must all see the same entries."""
        return self.optimizer in ("lbfgs", "adaptive-gd")

    @property
    def small_scale(self) -> float:
        """Size of the start, where that is not of the gradient."""
        return 2e-5 if self.init_scale is None else self.init_scale

    @property
    def start(self) -> str:
        """How the factors start, where ``initialization`` does not say it, too."""
        if self.initialization is not None:
            return self.initialization
        return "spectral" if self.coordinates == "scaled" or self.hidden == "auto" else "gaussian"

    def width(self, shape: tuple[int, int]) -> int:
        """Return the width of the hidden spaces; one that is found has taken the place of "auto" before."""
        assert self.hidden != "auto"
        return self.hidden or min(shape)

    @property
    def has_spectral_phases(self) -> bool:
        """Whether factors start in the steepest directions, of the gradient's size, and may be split."""
        return self.start == "spectral" and self.coordinates == "scaled"


FAST = CompletionOptions(depth=2, hidden=48, optimizer="lbfgs")
"""A fraction of the time of the defaults, for a slightly larger error: depth 2 by L-BFGS, in about 20 passes
over the entries. `docs/theory.md` has the figures."""

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

The initial scale and the learning rate are ours: with them depths 2 and 3 separate on every seed tried.
"""
