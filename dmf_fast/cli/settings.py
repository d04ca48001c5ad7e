"""The options of ``dmf-fast complete``, their meaning and their defaults: the one place for them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from typer import Argument, Option

from dmf_fast.experiments import OPTIMIZERS, PaperSetting

_PAPER = PaperSetting()

PAPER_DEFAULTS: dict[str, Any] = {
    "depth": ",".join(str(depth) for depth in _PAPER.depths),
    "hidden": _PAPER.training.hidden,
    "init_scale": _PAPER.training.init_scale,
    "initialization": _PAPER.training.initialization,
    "optimizer": _PAPER.training.optimizer,
    "lr": _PAPER.training.lr,
    "steps": _PAPER.fit_options.steps,
    "train_loss_threshold": _PAPER.fit_options.train_loss_threshold,
    "evaluate_every": _PAPER.fit_options.evaluate_every,
    "singular_values": _PAPER.fit_options.record_singular_values,
    "bias": False,
    "centre": False,
    "clip": False,
    "validation_fraction": 0.0,
    "refit": False,
    "threads": 1,  # twice as fast as two at this size
}
"""What ``complete`` does without RATINGS: the paper's setting."""

RATINGS_DEFAULTS: dict[str, Any] = {
    "depth": "2",
    "hidden": 64,
    "init_scale": 1e-3,
    "initialization": "gaussian",
    "optimizer": "group-rmsprop",
    "lr": 0.1,
    "steps": 5_000,
    "patience": 20,
    "evaluate_every": 10,
    "singular_values": 0,
    "bias": True,
    "centre": True,
    "clip": True,
    "validation_fraction": 0.05,
    "refit": True,
}
"""What ``complete RATINGS`` does: what validation entries of MovieLens 100K's ``u1.base`` chose."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_CHOICES = {
    "optimizer": tuple(OPTIMIZERS),
    "initialization": ("gaussian", "balanced", "orthogonal", "identity", "uniform"),
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
    lr: Annotated[float | None, _option(f"Learning rate. {_by_job('lr')}")] = None
    weight_decay: Annotated[float, Option(help="L2 decay of the factors.")] = 0.0
    bias_weight_decay: Annotated[
        float | None, _option("L2 decay of the biases. [default: as --weight-decay]")
    ] = None
    steps: Annotated[int | None, _option(f"Most full-batch steps. {_by_job('steps')}", min=1)] = None
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
