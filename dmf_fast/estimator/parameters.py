"""The parameters of the estimator: names and defaults are those of the options that they become."""

from __future__ import annotations

import os
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state

from dmf_fast.completion import CompletionOptions
from dmf_fast.observations.duplicates import Duplicates
from dmf_fast.ops.functional import Reduction
from dmf_fast.options import options_of

_JOB = CompletionOptions()
_RUN, _FIT, _RECORDING = _JOB, _JOB.fit, _JOB.recording


class CompleterParameters(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """What `MatrixCompleter` is constructed with; `MatrixCompleter` documents it."""

    def __init__(
        self,
        *,
        depth: int = _RUN.depth,
        hidden: int | None = _RUN.hidden,
        init_scale: float = _RUN.init_scale,
        initialization: str = _RUN.initialization,
        bias: bool = _RUN.bias,
        center: bool = _RUN.center,
        coordinates: str = _RUN.coordinates,
        degree_exponent: float = _RUN.degree_exponent,
        optimizer: str = _RUN.optimizer,
        lr: float | None = _RUN.lr,
        weight_decay: float = _RUN.weight_decay,
        bias_weight_decay: float | None = _RUN.bias_weight_decay,
        schedule: str = _RUN.schedule,
        warmup: int = _RUN.warmup,
        steps: int = _FIT.steps,
        reduction: Reduction = _FIT.reduction,
        train_loss_threshold: float | None = _FIT.train_loss_threshold,
        patience: int | None = _FIT.patience,
        evaluate_every: int | None = _RECORDING.every,
        singular_values: int | None = _RECORDING.singular_values,
        gradient_clip: float | None = _FIT.gradient_clip,
        checkpoint_every: int | None = _FIT.checkpoint_every,
        max_seconds: float | None = _FIT.max_seconds,
        batches: int = _FIT.batches,
        validation_fraction: float = _JOB.validation_fraction,
        refit: bool = _JOB.refit,
        clip: bool = True,
        dtype: Literal["float32", "float64"] = "float32",
        duplicates: Duplicates = "error",
        keep_ratings: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        n_threads: int | None = None,
        random_state: Any = _RUN.seed,
        verbose: bool = False,
    ) -> None:
        self.depth = depth
        self.hidden = hidden
        self.init_scale = init_scale
        self.initialization = initialization
        self.bias = bias
        self.center = center
        self.coordinates = coordinates
        self.degree_exponent = degree_exponent
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.bias_weight_decay = bias_weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.steps = steps
        self.reduction = reduction
        self.train_loss_threshold = train_loss_threshold
        self.patience = patience
        self.evaluate_every = evaluate_every
        self.singular_values = singular_values
        self.gradient_clip = gradient_clip
        self.checkpoint_every = checkpoint_every
        self.max_seconds = max_seconds
        self.batches = batches
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.clip = clip
        self.dtype = dtype
        self.duplicates = duplicates
        self.keep_ratings = keep_ratings
        self.checkpoint = checkpoint
        self.resume = resume
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    def _options(self) -> CompletionOptions:
        """Return the options of the whole job; they check themselves."""
        own = self.get_params(deep=False)
        shared = {name: own[name] for name in options_of(CompletionOptions) if name in own}
        options = _JOB.changed(shared | {"seed": self._seed()})
        return replace(options, fit=replace(options.fit, progress=bool(self.verbose)))

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _checkpoint(self) -> Path | None:
        return None if self.checkpoint is None else Path(self.checkpoint)
