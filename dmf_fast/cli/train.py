"""The training of one depth, from a problem to a predictor."""

from __future__ import annotations

from dataclasses import dataclass

from dmf_fast.cli.job import Interrupted
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.problem import CompletionProblem
from dmf_fast.cli.progress import shows_lines, spoken_progress
from dmf_fast.cli.settings import JobSettings
from dmf_fast.cli.tensorboard_log import tensorboard_log
from dmf_fast.completion import CompletedMatrix, complete_matrix
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
        return self.completed.options.depth

    @property
    def merit(self) -> tuple[float, int]:
        """What orders runs, the best first: by validation; the deepest where no validation entries decide."""
        rmse = self.completed.validation_rmse
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
        completed = complete_matrix(
            problem.observed,
            options,
            train=problem.train,
            validation=problem.validation,
            test=problem.known_test,
            truth=problem.truth,
            callbacks=callbacks,
            checkpoint=checkpoint,
            resume=settings.resume,
        )
    if completed.diverged and folder is not None:
        folder.discard()
    _check_ending(completed, depth)
    predictor = Predictor.of(
        completed.model, problem.observed, centred=bool(settings.centre), clip=bool(settings.clip)
    )
    return FinishedRun(completed, predictor)


def _check_ending(completed: CompletedMatrix, depth: int) -> None:
    step = completed.result.steps
    if completed.interrupted:
        raise Interrupted(f"at step {step} of depth {depth}")
    if completed.diverged:
        raise ValueError(
            f"The run of depth {depth} diverged: its loss is not finite at step {step}; lower --lr or "
            "--init-scale."
        )
