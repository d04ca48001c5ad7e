"""A whole job: search for the best step by validation entries, then train on all entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc
from torch import Tensor

from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.run import CompletionRun, run_completion
from dmf_fast.observations import Observations
from dmf_fast.training import Callback, FitOptions, FitResult


@dataclass(frozen=True)
class CompletedMatrix:
    """The run that validation entries have stopped, and the one that counts: the same, or one on all entries.

    Attributes:
        searched: trained without the validation entries, which chose its best step.
        run: trained on all entries, up to the same train loss; or ``searched`` where nothing was to be
            trained again.

    """

    searched: CompletionRun
    run: CompletionRun

    @property
    def refitted(self) -> bool:
        """Whether there were two runs."""
        return self.run is not self.searched

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.searched.result.seconds + (self.run.result.seconds if self.refitted else 0.0)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C has ended the job before its time."""
        return self.run.result.stopped_because == "interrupted"

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return self.run.result.stopped_because == "diverged"


def split_validation(
    observed: Observations, options: CompletionOptions
) -> tuple[Observations, Observations | None]:
    """Return the entries to train on and those that validate, None where there would be none.

    >>> observed = Observations([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0])
    >>> [len(part) for part in split_validation(observed, CompletionOptions(validation_fraction=0.3))]
    [2, 1]
    """
    if not options.validation_fraction:
        return observed, None
    train, validation = observed.split(options.validation_fraction, options.seed)
    return (train, validation) if validation.total_weight and train.total_weight else (observed, None)


def complete_matrix(
    observed: Observations,
    options: CompletionOptions,
    *,
    train: Observations | None = None,
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
) -> CompletedMatrix:
    """Train on ``observed`` as `CompletionOptions` says.

    Args:
        observed: all entries that may be learnt from.
        options: model, training, validation and refit.
        train: the entries of ``observed`` that the search trains on, where ``validation`` is given.
        validation: entries that choose the best step, instead of a random part of ``observed``. Without
            ``train`` they are no part of it, and there is no refit.
        test: measured, and chooses nothing.
        truth: the whole matrix, ``(m, n)``, to measure against.
        callbacks: as for `dmf_fast.training.fit`; both runs call them.
        checkpoint: folder for the states of both runs, ``search`` and ``refit``.
        resume: go on from them.

    Raises:
        ValueError, TypeError, OSError: as `dmf_fast.training.fit` raises.

    Example:
        >>> from dmf_fast.experiments import low_rank_problem
        >>> observed = low_rank_problem(9, 8, 1, 40, seed=0).train
        >>> options = CompletionOptions().changed({"steps": 4, "evaluate_every": 2})
        >>> completed = complete_matrix(observed, options)
        >>> completed.refitted, completed.interrupted
        (True, False)

    """
    if validation is None:
        train, validation = split_validation(observed, options)
    train = observed if train is None else train
    folders = {name: None if checkpoint is None else checkpoint / name for name in ("search", "refit")}
    if checkpoint is not None:
        checkpoint.mkdir(parents=True, exist_ok=True)
    searched = run_completion(
        options,
        train,
        validation=validation,
        test=test,
        truth=truth,
        callbacks=callbacks,
        checkpoint=folders["search"],
        resume=resume,
    )
    ended = searched.result.stopped_because in ("interrupted", "diverged")
    if not options.refit or train is observed or searched.result.best_step is None or ended:
        return CompletedMatrix(searched, searched)
    run = run_completion(
        replace(options, fit=_refit_options(options.fit, searched.result)),
        observed,
        test=test,
        truth=truth,
        callbacks=callbacks,
        schedule_steps=options.fit.steps,
        checkpoint=folders["refit"],
        resume=resume,
    )
    return CompletedMatrix(searched, run)


def _refit_options(options: FitOptions, searched: FitResult) -> FitOptions:
    """Return how long to train on all entries: as closely as the best step of the search fitted its own.

    The loss tells how far a run has come better than the number of steps, whose lengths depend on the data.
    The loss of a batch would not.
    """
    best = searched.best_step
    assert best is not None
    options = replace(options, train_loss_threshold=None, patience=None)
    if options.batches > 1:
        return replace(options, steps=best)
    reached = searched.history.filter(pc.equal(searched.history["step"], best))["train_loss"][0].as_py()
    return replace(options, steps=best + best // 4, train_loss_threshold=reached)
