"""``dmf-fast tune``: searches for the settings that predict validation ratings best."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from typer import Argument

from dmf_fast.cli.config import config_text
from dmf_fast.cli.job import Interrupted, running_job
from dmf_fast.cli.option import option
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.problem import CompletionProblem, load_problem
from dmf_fast.cli.progress import say, shows_lines
from dmf_fast.cli.report import print_results
from dmf_fast.cli.settings import CompleteSettings, JobSettings
from dmf_fast.cli.train_and_write import begin, train_and_write

if TYPE_CHECKING:
    from dmf_fast.tuning import SearchSpace, TuningResult, TuningTrial


@dataclass(frozen=True, kw_only=True)
class TuneSettings(JobSettings):
    """The options of ``tune``."""

    ratings: Annotated[Path, Argument(help="File of ratings, as for dmf-fast complete.")]
    trials: Annotated[int, option("How many settings are tried. [default: 40]", min=1)] = 40
    max_seconds: Annotated[
        float | None, option("After so many seconds no other trial begins. [default: no limit]", min=0.0)
    ] = None
    prune: Annotated[
        bool, option("End trials that are behind the others. [default: yes]", "--prune/--no-prune")
    ] = True


def tune(given: TuneSettings) -> None:
    """Search for the settings with the best validation RMSE, and train with them as complete does.

    Searched for are --weight-decay, --bias-weight-decay, --degree-exponent, --init-scale and --hidden, unless
    they are given, and --depth where several are: --depth 2,3. The first trial has the defaults of complete,
    so that tuning is never worse. config.yaml in --out then has the best settings.
    """
    from dmf_fast.tuning import SearchSpace

    settings = given.resolved()
    if settings.show_config:
        typer.echo(config_text("tune", settings), nl=False)
        return
    if not settings.validation_fraction and settings.validation is None:
        raise ValueError("tune needs a --validation-fraction above 0, or --validation: what else decides?")
    space = _space(SearchSpace(), given, settings.depths)
    with running_job("tune", given) as folder:
        problem = load_problem(settings)
        begin(settings, problem, folder)
        found = _search(settings, problem, space, folder)
        results = train_and_write(_best(settings, found), problem, folder, {"tuning": _summary(found)})
        if folder is not None:
            pq.write_table(found.table, folder.results / "trials.parquet")
    if not settings.as_json:
        _print_trials(found)
    print_results(results, as_json=settings.as_json)


def _space(space: SearchSpace, given: TuneSettings, depths: tuple[int, ...]) -> SearchSpace:
    """Return what is searched for: all that was not given."""
    fixed = [name for name in space.searched if getattr(given, name) is not None]
    space = replace(space.without(*fixed), depth=depths if len(depths) > 1 else None)
    if not space.searched:
        raise ValueError("Nothing is left to be searched for: leave out one of --weight-decay, --hidden, ….")
    return space


def _search(
    settings: TuneSettings, problem: CompletionProblem, space: SearchSpace, folder: OutputFolder | None
) -> TuningResult:
    from dmf_fast.tuning import TuningOptions
    from dmf_fast.tuning import tune as search

    tuning = TuningOptions(settings.trials, settings.max_seconds, settings.seed, settings.prune)
    best = float("inf")
    hidden = True if settings.quiet else None  # None: only where standard error is a terminal
    with tqdm(total=settings.trials, unit="trial", disable=hidden) as bar:

        def after_trial(trial: TuningTrial) -> None:
            nonlocal best
            if trial.state == "complete" and trial.validation_rmse is not None:
                best = min(best, trial.validation_rmse)
            bar.update(trial.number + 1 - bar.n)
            bar.set_postfix_str(f"best validation RMSE {best:.4f}")
            if shows_lines(quiet=settings.quiet):
                say(_line(trial, settings.trials, best), quiet=False)

        found = search(
            problem.train,
            settings.options(settings.depths[0]),
            space,
            tuning,
            validation=problem.validation,
            kept_in=None if folder is None else folder.checkpoint("trials.json"),
            after_trial=after_trial,
        )
    if found.interrupted:
        raise Interrupted(f"after {len(found.trials)} of {settings.trials} trials")
    return found


def _best(settings: TuneSettings, found: TuningResult) -> CompleteSettings:
    """Return the settings of ``complete`` that train the best model."""
    given = {field.name: getattr(settings, field.name) for field in fields(CompleteSettings)}
    return CompleteSettings(**(given | {"depth": str(found.options.run.depth)} | _searched(found)))


def _searched(found: TuningResult) -> dict[str, Any]:
    """Return the best settings by the names of the options."""
    return {name: getattr(found.options.run, name) for name in found.best.settings if name != "depth"}


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


def _print_trials(found: TuningResult) -> None:
    names = list(found.best.settings)
    table = Table("trial", "valid. RMSE", "steps", title="Best trials")
    for name in names:
        table.add_column(name.replace("_", " "), min_width=7)
    complete = [trial for trial in found.trials if trial.state == "complete"]
    for trial in sorted(complete, key=lambda trial: (trial.validation_rmse, trial.number))[:10]:
        cells = (_short(trial.settings[name]) for name in names)
        measures = (f"{trial.validation_rmse:.4f}", f"{trial.steps}")
        table.add_row(str(trial.number + 1), *measures, *cells)
    Console().print(table)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2g}"
