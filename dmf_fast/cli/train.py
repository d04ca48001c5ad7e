"""The training of one depth, from a problem to a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dmf_fast.cli.job import Interrupted
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.problem import CompletionProblem
from dmf_fast.cli.progress import shows_lines, spoken_progress
from dmf_fast.cli.settings import JobSettings
from dmf_fast.cli.tensorboard_log import tensorboard_log
from dmf_fast.completion import CompletedMatrix, CompletionOptions, complete_matrix, run_completion
from dmf_fast.serving import Predictor
from dmf_fast.training import Callback


@dataclass(frozen=True)
class FinishedRun:
    """What a depth ends in: the runs, and the predictor of the one that counts."""

    completed: CompletedMatrix
    predictor: Predictor

    @property
    def depth(self) -> int:
        """The number of factors."""
        return self.completed.run.settings.depth

    @property
    def merit(self) -> tuple[float, int]:
        """What orders runs, the best first: by validation; the deepest where no validation entries decide."""
        rmse = self.completed.searched.validation_rmse
        return (float("inf") if rmse is None else rmse, -self.depth)


def train_depth(
    settings: JobSettings, problem: CompletionProblem, depth: int, folder: OutputFolder | None
) -> FinishedRun:
    """Train a model of one depth, or go on with it.

    Raises `Interrupted` after Ctrl-C and a `ValueError` where the loss is not finite any more.
    """
    checkpoint = None
    if folder is not None and settings.checkpoint_every:
        checkpoint = folder.checkpoint(f"depth-{depth}")
    options = settings.options(depth, checkpointed=checkpoint is not None)
    callbacks: list[Callback] = []
    if shows_lines(quiet=settings.quiet):
        callbacks.append(spoken_progress(options.fit.steps, f"depth {depth}"))
    with tensorboard_log(settings.tensorboard, f"depth-{depth}") as logged:
        callbacks += logged
        completed = _completed(problem, options, callbacks, checkpoint, resume=settings.resume)
    if completed.diverged and folder is not None:
        folder.discard()
    _check_ending(completed, depth)
    return FinishedRun(completed, _predictor(settings, problem, completed))


def _completed(
    problem: CompletionProblem,
    options: CompletionOptions,
    callbacks: Sequence[Callback],
    checkpoint: Path | None,
    *,
    resume: bool,
) -> CompletedMatrix:
    completed = complete_matrix(
        problem.observed if problem.drawn else problem.train,
        options,
        validation=None if problem.drawn else problem.validation,
        test=problem.known_test,
        truth=problem.truth,
        callbacks=callbacks,
        checkpoint=checkpoint,
        resume=resume,
    )
    result = completed.searched.result
    parted = not problem.drawn and problem.train is not problem.observed
    ended = completed.interrupted or completed.diverged
    if not parted or not options.refit or ended or result.best_step is None:
        return completed
    # `complete_matrix` trains again on what it has drawn itself; a part that was given is put back here.
    fit = replace(options.fit, steps=result.best_step, train_loss_threshold=None, patience=None)
    run = run_completion(
        options.run,
        fit,
        problem.observed,
        test=problem.known_test,
        callbacks=callbacks,
        schedule_steps=options.fit.steps,
        checkpoint=None if checkpoint is None else checkpoint / "refit",
        resume=resume,
    )
    return CompletedMatrix(completed.searched, run)


def _check_ending(completed: CompletedMatrix, depth: int) -> None:
    step = completed.run.result.steps
    if completed.interrupted:
        raise Interrupted(f"at step {step} of depth {depth}")
    if completed.diverged:
        raise ValueError(
            f"The run of depth {depth} diverged: its loss is not finite at step {step}; lower --lr or "
            "--init-scale."
        )


def _predictor(settings: JobSettings, problem: CompletionProblem, completed: CompletedMatrix) -> Predictor:
    model, values = completed.run.model, problem.observed.values
    return Predictor(
        model,
        model.mean.item() if settings.centre else values.double().mean().item(),
        values.min().item(),
        values.max().item(),
        clip=bool(settings.clip),
    )
