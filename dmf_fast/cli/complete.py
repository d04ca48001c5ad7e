"""``dmf-fast complete``: trains on ratings, measures, and writes a folder to predict from."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, Literal

import click

from dmf_fast.cli.block_problem import block_problem
from dmf_fast.cli.config import config_text
from dmf_fast.cli.job import Interrupted, running_job
from dmf_fast.cli.measuring import fitted_biases, measure
from dmf_fast.cli.options import CompleteOptions, JobOptions
from dmf_fast.cli.output import write_output
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.problem import CompletionProblem, in_folds, load_problem
from dmf_fast.cli.processes import all_processes, is_restarted
from dmf_fast.cli.progress import duration, shows_lines, spoken_progress, tensorboard_log
from dmf_fast.cli.streams import say
from dmf_fast.cli.summary import print_results, results_of
from dmf_fast.completion import CompletedMatrix, complete_matrix
from dmf_fast.completion.widths import MOST_TAIL_SHARE
from dmf_fast.data.block_files import is_row_blocks
from dmf_fast.distributed.evaluation import local_predictor
from dmf_fast.evaluation import Biases, Evaluation
from dmf_fast.ops.statistics import value_range
from dmf_fast.serving import Predictor, SeenColumns, collapse
from dmf_fast.serving.trained_folder import FACTS
from dmf_fast.sharding import RowSharding
from dmf_fast.training import Callback

_ON_BIASES_ALONE = (
    "The factors contribute nothing: the predictions are as good without them. More ratings, another "
    "--depth, a lower --weight-decay or more --steps may change that."
)
_ALL_EQUAL = (
    "All ratings are {:g}: there is nothing to learn from them. If they stand for clicks or purchases, use a "
    "library for implicit feedback."
)


def complete(options: CompleteOptions) -> None:
    """Train on ratings, or on the paper's matrix, and print the results."""
    if options.output.show_config:
        click.echo(config_text("complete", options), nl=False)
        return
    with ExitStack() as stack:
        sharding = stack.enter_context(all_processes(options.output.threads, options.completion.device))
        if sharding.broadcast(_is_done(options)):
            say(f"{options.output.out} was already complete when a process failed; nothing is left to do.")
            return
        folder = stack.enter_context(running_job("complete", options, sharding))
        problem = _problem(options, sharding)
        begin(options, problem, folder)
        results = train_and_write(options, problem, folder)
    if sharding.rank == 0:
        print_results(results, as_json=options.output.as_json)


def _is_done(options: JobOptions) -> bool:
    """Return whether the job had already finished before torchrun restarted it."""
    out = options.output.out
    return is_restarted() and options.output.resume and out is not None and (out / FACTS).is_file()


def _problem(options: JobOptions, sharding: RowSharding) -> CompletionProblem:
    """Return the problem to train on; only row blocks can be shared by processes."""
    if options.ratings is not None and is_row_blocks(options.ratings):
        return block_problem(options, sharding)
    sharding.together(lambda: _refuse_several(options, sharding))
    return load_problem(options)


def _refuse_several(options: JobOptions, sharding: RowSharding) -> None:
    if sharding.mesh is not None:
        given = "nothing" if options.ratings is None else str(options.ratings)
        raise ValueError(
            f"RATINGS must be row blocks if torchrun starts the command, got {given}; write them with "
            "dmf-fast prepare, or run dmf-fast complete without torchrun"
        )


def begin(options: JobOptions, problem: CompletionProblem, folder: OutputFolder | None) -> None:
    """Print what is trained on, and check that a resumed job has the same data as before."""
    _introduce(options, problem)
    if options.output.out is not None:
        parts = {"ratings": problem.observed, "validation": problem.folds[0][1], "test": problem.known_test}
        digests = {f"SHA-256 of {name}": part.digest() for name, part in parts.items() if part is not None}
        problem.observed.sharding.together(lambda: _agree_on_data(folder, digests))


def _agree_on_data(folder: OutputFolder | None, digests: dict[str, str]) -> None:
    if folder is not None:
        folder.agree_on_data(digests)


def train_and_write(
    options: JobOptions,
    problem: CompletionProblem,
    folder: OutputFolder | None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a model per depth, measure them, fill the folder, and return the results with ``more``."""
    started, sharding = time.perf_counter(), problem.observed.sharding
    models = [train_depth(options, problem, depth, folder) for depth in options.depths]
    trained = time.perf_counter()
    say(f"Trained in {duration(trained - started)}.", quiet=options.output.quiet)
    trained_on = problem.observed if options.completion.refit else problem.folds[0][0]
    biases, validation_rmses = fitted_biases(problem.folds, trained_on, models[0])
    seen = SeenColumns.of(problem.observed)
    predictors = [
        Predictor.of(completed.model, problem.observed, centered=options.completion.center, clip=options.clip)
        for completed in models
    ]
    evaluations = [_evaluation(options, problem, predictor, seen, biases) for predictor in predictors]
    seconds = {
        "reading": problem.seconds,
        "training": sum(completed.seconds for completed in models),
        "measuring": time.perf_counter() - trained,
    }
    results = results_of(options, problem, models, evaluations, validation_rmses, seconds) | (more or {})
    if options.output.out is not None:
        target = sharding.together(lambda: None if folder is None else folder.results)
        write_output(target, options, problem, models, predictors, seen, biases, results)
    return results


def _evaluation(
    options: JobOptions, problem: CompletionProblem, predictor: Predictor, seen: SeenColumns, biases: Biases
) -> Evaluation | None:
    """Return how good a model is on the test ratings, or None without any."""
    if problem.test is None:
        return None
    own = local_predictor(predictor)
    return measure(
        own,
        collapse(own.model),
        seen,
        biases,
        problem.test,
        top_k=options.data.top_k,
        relevant_from=options.data.relevant_from,
        sharding=problem.observed.sharding,
    )


def train_depth(
    options: JobOptions, problem: CompletionProblem, depth: int | Literal["auto"], folder: OutputFolder | None
) -> CompletedMatrix:
    """Train or resume a model of one depth, or of the depth that the validation entries choose.

    Raises `Interrupted` after Ctrl-C, and a `ValueError` if the loss is no longer finite.
    """
    sharding, checkpoint = problem.observed.sharding, None
    if folder is not None and options.completion.fit.checkpoint_every:
        checkpoint = folder.checkpoint(f"depth-{depth}")
    checkpoint = sharding.broadcast(checkpoint)
    job = options.completion_of(depth)
    callbacks: list[Callback] = []
    if shows_lines(quiet=options.output.quiet) and sharding.rank == 0:
        callbacks.append(spoken_progress(job.fit.steps, f"depth {depth}"))
    log = options.output.tensorboard if sharding.rank == 0 else None
    with tensorboard_log(log, f"depth-{depth}") as logged:
        callbacks += logged
        completed = complete_matrix(
            problem.observed,
            job,
            folds=problem.folds,
            test=problem.known_test,
            truth=problem.truth,
            callbacks=callbacks,
            checkpoint=checkpoint,
            resume=options.output.resume,
        )
    if completed.diverged and folder is not None:
        folder.discard()
    _check_ending(completed, depth)
    if completed.widths:
        say(_about_widths(completed, problem.observed.shape), quiet=options.output.quiet)
    if not completed.left_start:
        least, largest = value_range(problem.observed)
        say(_ALL_EQUAL.format(least) if least == largest else _ON_BIASES_ALONE, quiet=options.output.quiet)
    return completed


def _about_widths(completed: CompletedMatrix, shape: tuple[int, int]) -> str:
    """Return a sentence about the widths that were tried, and how full they were."""
    shares = ", ".join(
        f"{'not judged, as the loss hardly fell,' if one.tail_share is None else f'{one.tail_share:.2%}'} "
        f"at {one.width}"
        for one in completed.widths
    )
    return (
        f"Width found: {completed.widths[-1].width} of at most {min(shape)}. Share of the nuclear norm in "
        f"the smaller half of the singular values (at most {MOST_TAIL_SHARE:.0%}): {shares}."
    )


def _introduce(options: JobOptions, problem: CompletionProblem) -> None:
    """Print one line on standard error about the data."""
    columns, entries = problem.observed.shape[1], len(problem.observed)
    least, largest = value_range(problem.observed)
    validation = in_folds(problem.validation_count, len(problem.folds))
    source = f"{problem.source}, as no RATINGS were given" if options.ratings is None else problem.source
    say(
        f"{source}: {problem.row_count:,} rows, {columns:,} columns, {entries:,} entries from "
        f"{least:.6g} to {largest:.6g}, {validation} for validation; {problem.bad_rows:,} bad rows; read in "
        f"{duration(problem.seconds)}.",
        quiet=options.output.quiet,
    )


def _check_ending(completed: CompletedMatrix, depth: int | Literal["auto"]) -> None:
    step = completed.result.steps
    if completed.interrupted:
        raise Interrupted(f"at step {step} of depth {depth}")
    if completed.diverged:
        raise ValueError(
            f"The run of depth {depth} diverged: its loss is not finite at step {step}; lower --lr, or "
            "use the optimizer adaptive-gd, which finds its step size by itself"
        )
