"""The steps that every job with a model at its end shares: train, measure, write."""

from __future__ import annotations

import time
from typing import Any

from dmf_fast.cli.measuring import fitted_biases, measure
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.problem import CompletionProblem
from dmf_fast.cli.progress import duration, say
from dmf_fast.cli.report import MeasuredRun, results_of
from dmf_fast.cli.settings import JobSettings
from dmf_fast.cli.train import train_depth
from dmf_fast.cli.trained_output import write_output
from dmf_fast.serving import SeenColumns, collapse


def begin(settings: JobSettings, problem: CompletionProblem, folder: OutputFolder | None) -> None:
    """Say what is trained on, and see to it that a resumed job has the data that it had before."""
    _introduce(settings, problem)
    if folder is not None:
        parts = {"ratings": problem.observed, "validation": problem.validation, "test": problem.known_test}
        folder.agree_on_data(
            {f"SHA-256 of {name}": part.digest() for name, part in parts.items() if part is not None}
        )


def train_and_write(
    settings: JobSettings,
    problem: CompletionProblem,
    folder: OutputFolder | None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the models of all depths, measure them, fill the folder and return the results, with ``more``."""
    started = time.perf_counter()
    finished = [train_depth(settings, problem, depth, folder) for depth in settings.depths]
    say(f"Trained in {duration(time.perf_counter() - started)}.", quiet=settings.quiet)
    trained_on = problem.train if not settings.refit else problem.observed
    biases, validation_rmses = fitted_biases(problem.train, problem.validation, trained_on)
    seen = SeenColumns.of(problem.observed)
    measured = [
        MeasuredRun(
            one,
            None
            if problem.test is None
            else measure(
                one.predictor,
                collapse(one.predictor.model),
                seen,
                biases,
                problem.test,
                top_k=settings.top_k,
                relevant_from=settings.relevant_from,
            ),
        )
        for one in finished
    ]
    results = results_of(settings, problem, measured, validation_rmses) | (more or {})
    if folder is not None:
        write_output(folder.results, settings, problem, finished, seen, biases, results)
    return results


def _introduce(settings: JobSettings, problem: CompletionProblem) -> None:
    """Say in one line on standard error what is trained on."""
    rows, columns = problem.observed.shape
    validation = 0 if problem.validation is None else len(problem.validation)
    say(
        f"{problem.source}: {rows:,} rows, {columns:,} columns, {len(problem.observed):,} entries, of "
        f"which {validation:,} validate; {problem.bad_rows:,} bad rows; read in {duration(problem.seconds)}.",
        quiet=settings.quiet,
    )
