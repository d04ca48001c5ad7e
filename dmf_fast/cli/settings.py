"""The options of ``dmf-fast complete``, their meaning and their defaults: the one place for them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from typer import Argument, Option

from dmf_fast.completion import OPTIMIZERS, SCHEDULES, CompletionOptions, RunSettings
from dmf_fast.experiments import PaperSetting
from dmf_fast.initialization import INITIALIZATIONS
from dmf_fast.training import FitOptions

# Options of `complete` that are fields of `RunSettings` and `FitOptions`.
_RUN = (
    "hidden",
    "init_scale",
    "initialization",
    "bias",
    "centre",
    "coordinates",
    "degree_exponent",
    "optimizer",
    "lr",
    "weight_decay",
    "bias_weight_decay",
    "schedule",
    "warmup",
)
_FIT = ("steps", "batches", "train_loss_threshold", "patience", "evaluate_every", "gradient_clip")


def _defaults(run: RunSettings, fit: FitOptions, **others: Any) -> dict[str, Any]:
    """Return the defaults of a job by the names of the options."""
    options = {name: getattr(run, name) for name in _RUN} | {name: getattr(fit, name) for name in _FIT}
    return options | {"singular_values": fit.record_singular_values} | others


_PAPER = PaperSetting()
_RATINGS = CompletionOptions()

PAPER_DEFAULTS = _defaults(
    _PAPER.training,
    _PAPER.fit_options,
    depth=",".join(str(depth) for depth in _PAPER.depths),
    clip=False,
    validation_fraction=0.0,
    refit=False,
    threads=1,  # twice as fast as two at this size
)
"""What ``complete`` does without RATINGS: the paper's setting."""

RATINGS_DEFAULTS = _defaults(
    _RATINGS.run,
    _RATINGS.fit,
    depth=str(_RATINGS.run.depth),
    clip=True,
    validation_fraction=_RATINGS.validation_fraction,
    refit=_RATINGS.refit,
)
"""What ``complete RATINGS`` does: what validation entries of MovieLens 100K chose."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_CHOICES = {
    "optimizer": tuple(OPTIMIZERS),
    "initialization": tuple(INITIALIZATIONS),
    "coordinates": ("scaled", "plain"),
    "schedule": tuple(SCHEDULES),
    "duplicates": ("error", "first", "last", "mean", "sum"),
    "unknown": ("mean", "nan", "raise"),
    "dtype": tuple(DTYPES),
}
# These may differ between a run and the one that goes on with it: they do not touch the numbers.
_PRESENTATION = ("out", "overwrite", "resume", "as_json", "quiet")


def _option(text: str, *names: str, **limits: Any) -> Any:
    """Return a typer option whose help ends with its default: None means that the job decides."""
    return Option(*names, help=text, show_default=False, **limits)


def _by_job(name: str) -> str:
    """Return the words for the defaults of an option that depends on whether RATINGS are given."""
    ratings, paper = RATINGS_DEFAULTS.get(name, "none"), PAPER_DEFAULTS.get(name, "none")
    return f"[default: {ratings}; without RATINGS {paper}]" if ratings != paper else f"[default: {ratings}]"


@dataclass(frozen=True)
class CompleteSettings:
    """The options of ``complete``; None means the default of the job, see `resolved`."""

    ratings: Annotated[
        Path | None,
        Argument(
            help="File of (row, column, value): text, Parquet, .mtx or .npz. Without it: the paper's setting."
        ),
    ] = None
    depth: Annotated[str | None, _option(f"Number of factors, or several: 2,3. {_by_job('depth')}")] = None
    hidden: Annotated[int | None, _option(f"Width between the factors. {_by_job('hidden')}", min=1)] = None
    init_scale: Annotated[
        float | None, _option(f"Size of the product at the start. {_by_job('init_scale')}")
    ] = None
    initialization: Annotated[
        str | None, _option(f"{', '.join(_CHOICES['initialization'])}. {_by_job('initialization')}")
    ] = None
    optimizer: Annotated[
        str | None, _option(f"{', '.join(_CHOICES['optimizer'])}. {_by_job('optimizer')}")
    ] = None
    lr: Annotated[float | None, _option(f"Learning rate; adaptive-gd needs none. {_by_job('lr')}")] = None
    schedule: Annotated[
        str | None, _option(f"Of the learning rate: {', '.join(SCHEDULES)}. {_by_job('schedule')}")
    ] = None
    warmup: Annotated[
        int | None, _option(f"Steps over which the learning rate rises. {_by_job('warmup')}", min=0)
    ] = None
    coordinates: Annotated[
        str | None,
        _option(f"Of gradient descent: scaled by the numbers of ratings, or plain. {_by_job('coordinates')}"),
    ] = None
    degree_exponent: Annotated[
        float | None,
        _option(f"How much scaled: 0 to 1. {_by_job('degree_exponent')}", min=0.0, max=1.0),
    ] = None
    weight_decay: Annotated[
        float | None,
        _option(
            f"L2 decay of the factors; in scaled coordinates in units of the noise. {_by_job('weight_decay')}"
        ),
    ] = None
    bias_weight_decay: Annotated[
        float | None, _option("L2 decay of the biases. [default: as --weight-decay]")
    ] = None
    gradient_clip: Annotated[
        float | None, _option(f"Largest norm of all gradients. {_by_job('gradient_clip')}")
    ] = None
    steps: Annotated[int | None, _option(f"Most steps. {_by_job('steps')}", min=1)] = None
    batches: Annotated[
        int | None,
        _option(
            f"Random parts of RATINGS that steps take in turn; not for adaptive-gd. {_by_job('batches')}",
            min=1,
        ),
    ] = None
    patience: Annotated[
        int | None,
        _option(
            f"Stop after so many evaluations without a better validation RMSE. {_by_job('patience')}", min=1
        ),
    ] = None
    evaluate_every: Annotated[
        int | None, _option(f"Steps between evaluations. {_by_job('evaluate_every')}", min=1)
    ] = None
    train_loss_threshold: Annotated[
        float | None, _option(f"Stop at this mean train loss. {_by_job('train_loss_threshold')}")
    ] = None
    test: Annotated[Path | None, _option("File of test ratings; it chooses nothing. [default: none]")] = None
    validation_fraction: Annotated[
        float | None,
        _option(
            f"Part of RATINGS kept aside to choose the best step. {_by_job('validation_fraction')}",
            min=0.0,
            max=0.9,
        ),
    ] = None
    refit: Annotated[
        bool | None,
        _option(
            f"Train again on all RATINGS for the best number of steps. {_by_job('refit')}",
            "--refit/--no-refit",
        ),
    ] = None
    bias: Annotated[
        bool | None, _option(f"Learn a bias per row and column. {_by_job('bias')}", "--bias/--no-bias")
    ] = None
    centre: Annotated[
        bool | None, _option(f"Model differences from the mean. {_by_job('centre')}", "--centre/--no-centre")
    ] = None
    clip: Annotated[
        bool | None,
        _option(f"Clip predictions to the range of RATINGS. {_by_job('clip')}", "--clip/--no-clip"),
    ] = None
    unknown: Annotated[
        str, Option(help="Test pairs with an id that RATINGS lacks: mean (plus known bias), nan or raise.")
    ] = "mean"
    duplicates: Annotated[str, Option(help="A pair that stands twice: error, first, last, mean or sum.")] = (
        "error"
    )
    columns: Annotated[
        str | None,
        _option("Row, column, value columns by name or position: user,item,rating. [default: recognised]"),
    ] = None
    separator: Annotated[str | None, _option("Separator of a text table. [default: sniffed]")] = None
    singular_values: Annotated[
        int | None, _option(f"Singular values to record over time. {_by_job('singular_values')}", min=0)
    ] = None
    seed: Annotated[int, Option(help="Seed of the start, the validation part and the synthetic matrix.")] = 0
    dtype: Annotated[str, Option(help=f"{' or '.join(DTYPES)}.")] = "float32"
    threads: Annotated[
        int | None, _option("Threads to use. [default: torch's; without RATINGS 1]", min=1)
    ] = None
    out: Annotated[Path | None, _option("Folder to write the model and the results to. [default: none]")] = (
        None
    )
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the folder --out.")] = False
    resume: Annotated[bool, Option("--resume", help="Go on with an interrupted run of the same --out.")] = (
        False
    )
    checkpoint_every: Annotated[int, Option(help="Steps between checkpoints with --out; 0: none.", min=0)] = (
        1000
    )
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of a table.")] = False
    quiet: Annotated[bool, Option("--quiet", help="No progress bar.")] = False

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths to train, one run each."""
        try:
            depths = tuple(int(depth) for depth in (self.depth or "").split(","))
        except ValueError:
            depths = ()
        if not depths or min(depths) < 1 or len(set(depths)) != len(depths):
            raise ValueError(
                f"--depth must be an integer of at least 1, or different ones such as 2,3, not "
                f"{self.depth!r}."
            )
        return depths

    @property
    def column_names(self) -> list[str] | None:
        """The columns to read, or None to recognise them."""
        return None if self.columns is None else [name.strip() for name in self.columns.split(",")]

    def resolved(self) -> CompleteSettings:
        """Return the settings with the job's default for every None, checked.

        A choice that does not exist, a number out of range or options that contradict one another raise a
        `ValueError`.
        """
        defaults = PAPER_DEFAULTS if self.ratings is None else RATINGS_DEFAULTS
        settings = replace(self, **{k: v for k, v in defaults.items() if getattr(self, k) is None})
        settings._check()
        return settings

    def options(self, depth: int, *, checkpointed: bool = False) -> CompletionOptions:
        """Return what these settings mean for the training of one depth; they must be resolved."""
        return CompletionOptions(
            run=RunSettings(depth=depth, seed=self.seed, **{name: getattr(self, name) for name in _RUN}),
            fit=FitOptions(
                record_singular_values=self.singular_values or 0,
                seed=self.seed,
                progress=False if self.quiet else None,
                checkpoint_every=self.checkpoint_every if checkpointed else None,
                **{name: getattr(self, name) for name in _FIT},
            ),
            validation_fraction=self.validation_fraction or 0.0,
            refit=bool(self.refit),
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the numbers of a run, ready for JSON: a resumed run must agree with it."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
            if name not in _PRESENTATION
        }

    def _check(self) -> None:
        _ = self.depths
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"--{name} must be one of {', '.join(choices)}, but {getattr(self, name)!r} came."
                )
        for name in ("init_scale", "lr", "train_loss_threshold", "weight_decay", "bias_weight_decay"):
            value, positive = getattr(self, name), name in ("init_scale", "lr")
            if value is not None and not (
                math.isfinite(value) and (value > 0 or not positive) and value >= 0
            ):
                least = "above 0" if positive else "of at least 0"
                raise ValueError(f"--{name.replace('_', '-')} must be a number {least}, but {value} came.")
        if self.ratings is None and self.test is not None:
            raise ValueError("--test needs RATINGS: the paper's setting brings its own test entries.")
        if self.out is None and (self.resume or self.overwrite):
            raise ValueError("--resume and --overwrite need --out: say which folder.")
        if self.resume and self.overwrite:
            raise ValueError("--resume goes on with a run and --overwrite begins anew: give one of them.")
        if self.resume and self.checkpoint_every == 0:
            raise ValueError("--resume needs checkpoints: leave --checkpoint-every above 0.")
