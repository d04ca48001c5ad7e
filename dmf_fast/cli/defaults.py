"""The defaults of ``complete``, with and without RATINGS: those of the option dataclasses, in one place."""

from __future__ import annotations

from typing import Any

from dmf_fast.cli.option import option
from dmf_fast.completion import CompletionOptions, RunSettings
from dmf_fast.experiments import PaperSetting
from dmf_fast.training import FitOptions

# Options that are fields of `RunSettings` and `FitOptions`.
RUN_OPTIONS = (
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
FIT_OPTIONS = ("steps", "batches", "train_loss_threshold", "patience", "evaluate_every", "gradient_clip")


def _defaults(run: RunSettings, fit: FitOptions, **others: Any) -> dict[str, Any]:
    """Return the defaults of a job by the names of the options."""
    options = {name: getattr(run, name) for name in RUN_OPTIONS} | {
        name: getattr(fit, name) for name in FIT_OPTIONS
    }
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
    checkpoint_every=1000,  # of thousands of steps that take less than a millisecond
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
    checkpoint_every=50,  # of a few hundred, which take seconds where there are many ratings
)
"""What ``complete RATINGS`` does: what validation entries of MovieLens 100K chose."""


def _with_default(name: str, text: str) -> str:
    """Return help that ends with the defaults of an option."""
    ratings, paper = RATINGS_DEFAULTS.get(name), PAPER_DEFAULTS.get(name)
    shown = ["none" if value is None else value for value in (ratings, paper)]
    if ratings == paper:
        return f"{text} [default: {shown[0]}]"
    return f"{text} [default: {shown[0]}; the paper's setting: {shown[1]}]"


def setting(name: str, text: str, *names: str, **limits: Any) -> Any:
    """Return a typer option whose help ends with the defaults of the option ``name``."""
    return option(_with_default(name, text), *names, **limits)
