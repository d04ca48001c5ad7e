"""``dmf-fast complete``: trains on ratings, measures, and leaves a folder to predict from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer

from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.plots import plot_losses, plot_singular_values
from dmf_fast.cli.problem import CompletionProblem, load_problem
from dmf_fast.cli.report import history_table, print_results, write_json
from dmf_fast.cli.settings import CompleteSettings
from dmf_fast.cli.trained_folder import model_name
from dmf_fast.experiments import CompletionRun, RunSettings, run_completion
from dmf_fast.observations import Observations
from dmf_fast.serving import Predictor
from dmf_fast.training import FitOptions


@dataclass(frozen=True)
class _FinishedRun:
    """A run, the run that is kept (the same or its refit), its predictor, and its error at the test pairs."""

    searched: CompletionRun
    run: CompletionRun
    predictor: Predictor
    test_rmse: float | None

    @property
    def seconds(self) -> float:
        """Seconds of training, those of the refit included."""
        runs = {id(run): run for run in (self.searched, self.run)}
        return sum(run.result.seconds for run in runs.values())


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
    searched = _fit(settings, problem, depth, folder)
    run = _refit(settings, problem, searched, folder) if settings.refit else searched
    values = problem.observed.values
    predictor = Predictor(
        run.model,
        run.model.mean.item() if settings.centre else _mean(problem.train),
        values.min().item(),
        values.max().item(),
        clip=bool(settings.clip),
    )
    return _FinishedRun(searched, run, predictor, _test_rmse(settings, problem, predictor))


def _fit(
    settings: CompleteSettings, problem: CompletionProblem, depth: int, folder: OutputFolder | None
) -> CompletionRun:
    """Train without the validation part, which chooses the best step."""
    run_settings = RunSettings(
        depth=depth,
        hidden=settings.hidden,
        init_scale=_given(settings.init_scale),
        initialization=_given(settings.initialization),
        bias=bool(settings.bias),
        mean=_mean(problem.train) if settings.centre else 0.0,
        optimizer=_given(settings.optimizer),
        lr=_given(settings.lr),
        weight_decay=settings.weight_decay,
        bias_weight_decay=settings.bias_weight_decay,
        seed=settings.seed,
    )
    checkpoint = _checkpoint(settings, folder, f"depth-{depth}")
    run = run_completion(
        run_settings,
        _fit_options(settings, checkpointed=checkpoint is not None),
        problem.train,
        validation=problem.validation,
        test=problem.test,
        truth=problem.truth,
        checkpoint=checkpoint,
        resume=settings.resume,
    )
    _check_ending(run, folder, f"depth-{depth}")
    return run


def _refit(
    settings: CompleteSettings,
    problem: CompletionProblem,
    searched: CompletionRun,
    folder: OutputFolder | None,
) -> CompletionRun:
    """Train again on all ratings, the validation part too, for the number of steps that it chose."""
    steps = searched.result.best_step
    if steps is None:
        return searched
    name = f"depth-{searched.settings.depth}-refit"
    checkpoint = _checkpoint(settings, folder, name)
    options = _fit_options(settings, checkpointed=checkpoint is not None)
    run = run_completion(
        replace(searched.settings, mean=_mean(problem.observed) if settings.centre else 0.0),
        replace(options, steps=steps, train_loss_threshold=None, patience=None),
        problem.observed,
        test=problem.test,
        truth=problem.truth,
        checkpoint=checkpoint,
        resume=settings.resume,
    )
    _check_ending(run, folder, name)
    return run


def _mean(observations: Observations) -> float:
    return observations.values.double().mean().item()


def _checkpoint(settings: CompleteSettings, folder: OutputFolder | None, name: str) -> Path | None:
    if folder is None or not settings.checkpoint_every:
        return None
    checkpoint = folder.checkpoint(name)
    checkpoint.parent.mkdir(exist_ok=True)
    return checkpoint


def _fit_options(settings: CompleteSettings, *, checkpointed: bool) -> FitOptions:
    return FitOptions(
        steps=_given(settings.steps),
        train_loss_threshold=settings.train_loss_threshold,
        patience=settings.patience,
        evaluate_every=_given(settings.evaluate_every),
        record_singular_values=_given(settings.singular_values),
        seed=settings.seed,
        progress=False if settings.quiet else None,
        checkpoint_every=settings.checkpoint_every if checkpointed else None,
    )


def _check_ending(run: CompletionRun, folder: OutputFolder | None, checkpoint: str) -> None:
    """End the job where a run has diverged or was interrupted."""
    depth, step = run.settings.depth, run.result.steps
    if run.result.stopped_because == "diverged":
        if folder is not None:
            folder.discard()
        raise ValueError(
            f"The run of depth {depth} diverged: its loss is not finite at step {step}; lower --lr or "
            "--init-scale."
        )
    if run.result.stopped_because == "interrupted":
        kept = folder is not None and folder.checkpoint(checkpoint).exists()
        advice = "the same command with --resume goes on" if kept else "nothing is kept"
        typer.echo(f"Interrupted at step {step} of depth {depth}: {advice}.", err=True)
        raise typer.Exit(130)


def _given(value: Any) -> Any:
    """Return an option that `CompleteSettings.resolved` has filled in."""
    assert value is not None
    return value


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
    return {
        "version": version("dmf-fast"),
        "out": None if settings.out is None else str(settings.out),
        "data": {
            "rows": problem.train.shape[0],
            "columns": problem.train.shape[1],
            "train_entries": len(problem.train),
            "validation_entries": 0 if problem.validation is None else len(problem.validation),
            "test_entries": 0 if pairs is None else len(pairs.values),
            "test_entries_with_unknown_ids": 0 if pairs is None else int((~pairs.known).sum()),
        },
        "runs": [
            {
                "depth": one.run.settings.depth,
                "optimizer": one.run.settings.optimizer,
                "steps": one.searched.result.steps,
                "seconds": one.seconds,
                "train_loss": one.run.train_loss,
                "validation_rmse": one.searched.validation_rmse,
                "test_rmse": one.test_rmse,
                "reconstruction_mse": one.run.reconstruction_mse,
                "best_step": one.searched.result.best_step,
                "stopped_because": one.searched.result.stopped_because,
                "refit": one.run is not one.searched,
                "weight_decay": one.run.settings.weight_decay,
                "bias_weight_decay": one.run.settings.bias_weight_decay,
            }
            for one in finished
        ],
    }


def _write(
    folder: OutputFolder, problem: CompletionProblem, finished: list[_FinishedRun], results: dict[str, Any]
) -> None:
    target = folder.partial
    for one in finished:
        one.predictor.save(target / model_name(one.run.settings.depth))
    problem.row_ids.save(target / "row_ids.parquet")
    problem.column_ids.save(target / "column_ids.parquet")
    pq.write_table(_observed_pairs(problem), target / "observed.parquet")
    history = history_table([one.searched for one in finished])
    pq.write_table(history, target / "history.parquet")
    plot_losses(history, target / "losses.png")
    plot_singular_values(history, target / "singular_values.png")
    write_json(results, target / "metrics.json")


def _observed_pairs(problem: CompletionProblem) -> pa.Table:
    """Return the pairs of RATINGS by index, sorted by row, so that one row's are found in one place."""
    order = torch.argsort(problem.observed.rows, stable=True)
    rows, columns = problem.observed.rows[order], problem.observed.columns[order]
    return pa.table({"row": rows.int().numpy(), "column": columns.int().numpy()})
