"""The training job of `dmf_fast.completion`, from observed entries to a fitted model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dmf_fast.checks import whole_number
from dmf_fast.completion import CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.data import IdMap
from dmf_fast.estimator.fitted import FittedModel
from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import mean_value, spread
from dmf_fast.serving import Predictor
from dmf_fast.threads import threads_kept

# The smallest standard deviation of the noise, relative to that of the ratings.
_LEAST_NOISE = 1e-4


def train(
    observed: Observations,
    ids: tuple[IdMap, IdMap],
    options: CompletionOptions,
    *,
    validation: Observations | None,
    clip: bool,
    n_threads: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> tuple[FittedModel, CompletedMatrix]:
    """Return the trained model, and the result of the job.

    Raises:
        ValueError: the loss was not finite; and as in `complete_matrix`.
        KeyboardInterrupt: the training was interrupted by Ctrl-C.

    """
    with _threads(n_threads):
        completed = complete_matrix(
            observed, options, validation=validation, checkpoint=checkpoint, resume=resume
        )
    if completed.interrupted:
        raise KeyboardInterrupt
    if completed.diverged:
        raise ValueError(
            f"The training diverged: its loss is not finite at step {completed.result.steps}; lower lr, "
            "or use optimizer='adaptive-gd', which finds its step size by itself"
        )
    predictor = Predictor.of(completed.model, observed, centered=options.center, clip=clip)
    rmse = completed.validation_rmse
    noise = completed.train_loss if rmse is None else rmse**2
    least = (_LEAST_NOISE * spread(observed, mean_value(observed))) ** 2
    return FittedModel(predictor, *ids, max(noise, least), observed), completed


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    if count is None:
        yield
        return
    count = whole_number("n_threads", count, least=1)
    with threads_kept():
        torch.set_num_threads(count)
        yield
