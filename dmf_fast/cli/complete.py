"""``dmf-fast complete``: trains on ratings, measures, and leaves a folder to predict from."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import typer

from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.plots import plot_losses, plot_singular_values
from dmf_fast.cli.problem import CompletionProblem, load_problem
from dmf_fast.cli.report import history_table, print_results, write_json
from dmf_fast.cli.settings import CompleteSettings
from dmf_fast.completion import CompletedMatrix, complete_matrix, split_validation
from dmf_fast.serving import Predictor, SeenColumns
from dmf_fast.serving.trained_folder import write_trained_folder


@dataclass(frozen=True)
class _FinishedRun:
    """What a depth ends in: both runs, the predictor of the one that counts, its error at the test pairs."""

    completed: CompletedMatrix
    predictor: Predictor
    test_rmse: float | None


def complete(settings: CompleteSettings) -> None:
    """Complete a matrix of ratings: train one model per depth and report how well it does.

    Without RATINGS the paper's own setting runs: rank 5, 100 x 100, 2,000 entries, depths 2 and 3.
    """
    settings = settings.resolved()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    folder = None
    if settings.out is not None:
        folder = OutputFolder(settings.out, overwrite=settings.overwrite, resume=settings.resume)
    problem = load_problem(settings)
    if folder is not None:
        folder.open({"version": version("dmf-fast")} | settings.fingerprint() | problem.inputs)
    try:
        finished = [_train(settings, problem, depth, folder) for depth in settings.depths]
        results = _results(settings, problem, finished)
        if folder is not None:
            _write(folder, problem, finished, results)
            folder.publish()
    except BaseException:
        if folder is not None:
            folder.give_up()
        raise
    print_results(results, as_json=settings.as_json)


def _train(
    settings: CompleteSettings, problem: CompletionProblem, depth: int, folder: OutputFolder | None
) -> _FinishedRun:
    checkpoint = _checkpoint(settings, folder, f"depth-{depth}")
    completed = complete_matrix(
        problem.observed,
        settings.options(depth, checkpointed=checkpoint is not None),
        test=problem.test,
        truth=problem.truth,
        checkpoint=checkpoint,
        resume=settings.resume,
    )
    _check_ending(completed, depth, folder, checkpoint)
    model, values = completed.run.model, problem.observed.values
    predictor = Predictor(
        model,
        model.mean.item() if settings.centre else values.double().mean().item(),
        values.min().item(),
        values.max().item(),
        clip=bool(settings.clip),
    )
    return _FinishedRun(completed, predictor, _test_rmse(settings, problem, predictor))


def _checkpoint(settings: CompleteSettings, folder: OutputFolder | None, name: str) -> Path | None:
    if folder is None or not settings.checkpoint_every:
        return None
    return folder.checkpoint(name)


def _check_ending(
    completed: CompletedMatrix, depth: int, folder: OutputFolder | None, checkpoint: Path | None
) -> None:
    """End the job where a run has diverged or was interrupted."""
    step = completed.run.result.steps
    if completed.diverged:
        if folder is not None:
            folder.discard()
        raise ValueError(
            f"The run of depth {depth} diverged: its loss is not finite at step {step}; lower --lr or "
            "--init-scale."
        )
    if completed.interrupted:
        kept = checkpoint is not None and checkpoint.exists()
        advice = "the same command with --resume goes on" if kept else "nothing is kept"
        typer.echo(f"Interrupted at step {step} of depth {depth}: {advice}.", err=True)
        raise typer.Exit(130)


def _test_rmse(settings: CompleteSettings, problem: CompletionProblem, predictor: Predictor) -> float | None:
    """Return the error at the test pairs: unknown ids as asked for."""
    pairs = problem.test_pairs
    if pairs is None:
        return None
    predictions = predictor.predict(pairs.rows, pairs.columns)
    squares = (predictions.values - pairs.values) ** 2
    squares = squares[predictions.known] if settings.unknown == "nan" else squares
    return float(np.sqrt(squares.mean())) if squares.size else None


def _results(
    settings: CompleteSettings, problem: CompletionProblem, finished: list[_FinishedRun]
) -> dict[str, Any]:
    pairs = problem.test_pairs
    validation = split_validation(problem.observed, settings.options(settings.depths[0]))[1]
    validation_entries = 0 if validation is None else len(validation)
    return {
        "version": version("dmf-fast"),
        "out": None if settings.out is None else str(settings.out),
        "data": {
            "rows": problem.observed.shape[0],
            "columns": problem.observed.shape[1],
            "entries": len(problem.observed),
            "validation_entries": validation_entries,
            "test_entries": 0 if pairs is None else len(pairs.values),
            "test_entries_with_unknown_ids": 0 if pairs is None else int((~pairs.known).sum()),
        },
        "runs": [
            {
                "depth": one.completed.run.settings.depth,
                "optimizer": one.completed.run.settings.optimizer,
                "steps": one.completed.searched.result.steps,
                "seconds": one.completed.seconds,
                "train_loss": one.completed.run.train_loss,
                "validation_rmse": one.completed.searched.validation_rmse,
                "test_rmse": one.test_rmse,
                "reconstruction_mse": one.completed.run.reconstruction_mse,
                "best_step": one.completed.searched.result.best_step,
                "stopped_because": one.completed.searched.result.stopped_because,
                "refit": one.completed.refitted,
                "weight_decay": one.completed.run.settings.weight_decay,
                "bias_weight_decay": one.completed.run.settings.bias_weight_decay,
            }
            for one in finished
        ],
    }


def _write(
    folder: OutputFolder, problem: CompletionProblem, finished: list[_FinishedRun], results: dict[str, Any]
) -> None:
    target = folder.partial
    predictors = [one.predictor for one in sorted(finished, key=_merit)]
    seen = SeenColumns.of(problem.observed)
    write_trained_folder(target, predictors, problem.row_ids, problem.column_ids, seen)
    history = history_table([one.completed.searched for one in finished])
    pq.write_table(history, target / "history.parquet")
    plot_losses(history, target / "losses.png")
    plot_singular_values(history, target / "singular_values.png")
    write_json(results, target / "metrics.json")


def _merit(one: _FinishedRun) -> tuple[float, int]:
    """Order runs, the best first: by validation; the deepest where no validation entries decide."""
    rmse = one.completed.searched.validation_rmse
    return (float("inf") if rmse is None else rmse, -one.completed.run.settings.depth)
