"""Options about the model and its training, and their meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from dmf_fast.cli.defaults import FIT_OPTIONS, RUN_OPTIONS, setting
from dmf_fast.cli.option import option
from dmf_fast.completion import CHOICES, RunSettings
from dmf_fast.training import FitOptions


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What a model is and how it is trained; None is the default of the job."""

    depth: Annotated[str | None, setting("depth", "Number of factors, or several: 2,3.")] = None
    hidden: Annotated[int | None, setting("hidden", "Width between the factors.", min=1)] = None
    init_scale: Annotated[
        float | None,
        setting("init_scale", "Size of the start: of an entry; in plain coordinates, of the product."),
    ] = None
    initialization: Annotated[
        str | None, setting("initialization", f"{', '.join(CHOICES['initialization'])}.")
    ] = None
    bias: Annotated[bool | None, setting("bias", "Learn a bias per row and column.", "--bias/--no-bias")] = (
        None
    )
    centre: Annotated[
        bool | None, setting("centre", "Model differences from the mean.", "--centre/--no-centre")
    ] = None
    coordinates: Annotated[
        str | None,
        setting("coordinates", "Of gradient descent: scaled by the numbers of ratings, or plain."),
    ] = None
    degree_exponent: Annotated[
        float | None, setting("degree_exponent", "How much scaled: 0 to 1.", min=0.0, max=1.0)
    ] = None
    optimizer: Annotated[str | None, setting("optimizer", f"{', '.join(CHOICES['optimizer'])}.")] = None
    lr: Annotated[float | None, setting("lr", "Learning rate; adaptive-gd needs none.")] = None
    schedule: Annotated[
        str | None, setting("schedule", f"Of the learning rate: {', '.join(CHOICES['schedule'])}.")
    ] = None
    warmup: Annotated[int | None, setting("warmup", "Steps over which the learning rate rises.", min=0)] = (
        None
    )
    weight_decay: Annotated[
        float | None,
        setting("weight_decay", "L2 decay of the factors; in scaled coordinates in units of the noise."),
    ] = None
    bias_weight_decay: Annotated[
        float | None, option("L2 decay of the biases. [default: as --weight-decay]")
    ] = None
    gradient_clip: Annotated[float | None, setting("gradient_clip", "Largest norm of all gradients.")] = None
    steps: Annotated[int | None, setting("steps", "Most steps.", min=1)] = None
    batches: Annotated[
        int | None,
        setting("batches", "Random parts of RATINGS that steps take in turn; not for adaptive-gd.", min=1),
    ] = None
    patience: Annotated[
        int | None,
        setting("patience", "Stop after so many evaluations without a better validation RMSE.", min=1),
    ] = None
    evaluate_every: Annotated[int | None, setting("evaluate_every", "Steps between evaluations.", min=1)] = (
        None
    )
    train_loss_threshold: Annotated[
        float | None, setting("train_loss_threshold", "Stop at this mean train loss.")
    ] = None
    refit: Annotated[
        bool | None,
        setting(
            "refit", "Train again on all RATINGS, up to the train loss that was best.", "--refit/--no-refit"
        ),
    ] = None
    clip: Annotated[
        bool | None, setting("clip", "Clip predictions to the range of RATINGS.", "--clip/--no-clip")
    ] = None
    singular_values: Annotated[
        int | None, setting("singular_values", "Singular values to record over time.", min=0)
    ] = None
    seed: Annotated[
        int, option("Seed of the start, the validation part and the synthetic matrix. [default: 0]", min=0)
    ] = 0
    checkpoint_every: Annotated[
        int | None,
        setting("checkpoint_every", "Steps between checkpoints in --out; 0 for none.", min=0),
    ] = None

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

    def fit_options(self, *, checkpointed: bool, quiet: bool) -> FitOptions:
        """Return how long and how is trained; the settings must be resolved."""
        return FitOptions(
            record_singular_values=self.singular_values or 0,
            seed=self.seed,
            progress=False if quiet else None,
            checkpoint_every=(self.checkpoint_every or None) if checkpointed else None,
            **{name: getattr(self, name) for name in FIT_OPTIONS},
        )

    def run_settings(self, depth: int) -> RunSettings:
        """Return what the model of a depth is; the settings must be resolved."""
        return RunSettings(depth=depth, seed=self.seed, **{name: getattr(self, name) for name in RUN_OPTIONS})

    def check_model(self) -> None:
        """Raise a `ValueError` where a number is out of range."""
        _ = self.depths
        for name in ("init_scale", "lr", "train_loss_threshold", "weight_decay", "bias_weight_decay"):
            value, positive = getattr(self, name), name in ("init_scale", "lr")
            if value is not None and not (
                math.isfinite(value) and (value > 0 or not positive) and value >= 0
            ):
                least = "above 0" if positive else "of at least 0"
                raise ValueError(f"--{name.replace('_', '-')} must be a number {least}, but {value} came.")
