"""``dmf-fast tune``: searches for the settings that best predict validation ratings."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import click
import pyarrow.parquet as pq
from tqdm import tqdm

from dmf_fast.checks import printable
from dmf_fast.cli.complete import begin, train_and_write
from dmf_fast.cli.config import config_text
from dmf_fast.cli.job import Interrupted, running_job
from dmf_fast.cli.options import CompleteOptions, TuneOptions
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.problem import CompletionProblem, load_problem
from dmf_fast.cli.progress import shows_lines
from dmf_fast.cli.signals import exit_code
from dmf_fast.cli.streams import say
from dmf_fast.cli.summary import print_results
from dmf_fast.cli.targets import check_apart
from dmf_fast.data.block_files import is_row_blocks
from dmf_fast.extras import require

if TYPE_CHECKING:
    from dmf_fast.tuning import SearchSpace, TuningResult, TuningTrial


def tune(options: TuneOptions) -> None:
    """Search for the best settings, train with them, and print both."""
    from dmf_fast.tuning import SearchSpace

    if options.output.show_config:
        click.echo(config_text("tune", options), nl=False)
        return
    require("`dmf-fast tune`", "optuna")
    if not options.completion.validation_fraction and options.data.validation is None:
        raise ValueError(
            "tune needs a --validation-fraction above 0, or --validation, to choose the best trial"
        )
    space = _space(SearchSpace(), options)
    if options.output.out is not None:
        out, journal = options.output.out, options.tuning.journal
        check_apart(f"--out {printable(out)}", out, {"--journal": journal})
    if is_row_blocks(options.ratings):
        raise ValueError(
            f"RATINGS must be files of ratings for tune, got the row blocks {options.ratings}; search on "
            "files with part of the ratings, and train on all with dmf-fast complete"
        )
    with running_job("tune", options) as folder:
        problem = load_problem(options)
        begin(options, problem, folder)
        found = _search(options, problem, space, folder)
        results = train_and_write(_best(options, found), problem, folder, {"tuning": _summary(found)})
        if folder is not None:
            pq.write_table(found.table, folder.results / "trials.parquet")
    if not options.output.as_json:
        _print_trials(found, len(problem.folds))
    print_results(results, as_json=options.output.as_json)


def _space(space: SearchSpace, options: TuneOptions) -> SearchSpace:
    """Return the search space: all searchable options that were not given."""
    depths = options.depths
    fixed = dict.fromkeys(name for name in space.ranges if name in options.given)
    space = space.changed(**{**fixed, "depth": depths if len(depths) > 1 else None})
    if not space.ranges:
        raise ValueError("Nothing is left to search for: omit one of --weight-decay, --hidden, …")
    return space


def _search(
    options: TuneOptions, problem: CompletionProblem, space: SearchSpace, folder: OutputFolder | None
) -> TuningResult:
    from dmf_fast.tuning import tune as search

    tuning = replace(options.tuning, seed=options.completion.seed)
    best = float("inf")
    hidden = True if options.output.quiet else None  # None: shown only if standard error is a terminal
    with tqdm(total=tuning.trials, unit="trial", disable=hidden) as bar:

        def after_trial(trial: TuningTrial) -> None:
            nonlocal best
            if trial.state == "complete" and trial.validation_rmse is not None:
                best = min(best, trial.validation_rmse)
            bar.update(
                max(0, trial.number + 1 - bar.n)
            )  # other processes that share the journal also run trials
            bar.set_postfix_str(f"best validation RMSE {best:.4f}")
            if shows_lines(quiet=options.output.quiet):
                say(_line(trial, tuning.trials, best), quiet=False)

        found = search(
            problem.folds[0][0],
            options.completion_of(options.depths[0]),
            space,
            tuning,
            validation=problem.folds[0][1],
            kept_in=None if folder is None else folder.checkpoint("trials.json"),
            after_trial=after_trial,
        )
    if found.interrupted and tuning.journal is not None:
        kept = f"which {printable(tuning.journal)} keeps; repeat the command to continue"
        say(f"Interrupted after {len(found.trials)} of {tuning.trials} trials, {kept}.")
        raise click.exceptions.Exit(exit_code())
    if found.interrupted:
        raise Interrupted(f"after {len(found.trials)} of {tuning.trials} trials")
    return found


def _best(options: TuneOptions, found: TuningResult) -> CompleteOptions:
    """Return the options of ``complete`` that train the best model."""
    own = {f.name: getattr(options, f.name) for f in fields(CompleteOptions)}
    best = {"depth": str(found.options.depth), **_searched(found)}
    return CompleteOptions(**own).changed(best)


def _searched(found: TuningResult) -> dict[str, Any]:
    """Return the best settings by their keys."""
    return {name: getattr(found.options, name) for name in found.best.values if name != "depth"}


def _summary(found: TuningResult) -> dict[str, Any]:
    return {
        "trials": len(found.trials),
        "best_trial": found.best.number + 1,
        "validation_rmse_before": found.trials[0].validation_rmse,
        "validation_rmse": found.best.validation_rmse,
        "settings": _searched(found),
    }


def _line(trial: TuningTrial, trials: int, best: float) -> str:
    rmse = "" if trial.validation_rmse is None else f" at validation RMSE {trial.validation_rmse:.4f}"
    name = f"trial {trial.number + 1} of {trials}"
    return f"{name} {trial.state}{rmse} after {trial.seconds:.1f} s; best {best:.4f}"


def _print_trials(found: TuningResult, folds: int) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(found.best.values)
    rmse = "valid. RMSE" if folds == 1 else "RMSE, fold 1"  # not that of complete, which is over all folds
    table = Table("trial", rmse, "steps", title="Best trials")
    for name in names:
        table.add_column(name.replace("_", " "), min_width=7)
    complete = [trial for trial in found.trials if trial.state == "complete"]
    for trial in sorted(complete, key=lambda trial: (trial.validation_rmse, trial.number))[:10]:
        cells = (_short(trial.values[name]) for name in names)
        measures = (f"{trial.validation_rmse:.4f}", f"{trial.steps}")
        table.add_row(str(trial.number + 1), *measures, *cells)
    Console().print(table)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2g}"
