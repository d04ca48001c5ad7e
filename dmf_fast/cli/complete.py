"""``dmf-fast complete``: trains on ratings, measures, and leaves a folder to predict from."""

from __future__ import annotations

import typer

from dmf_fast.cli.config import config_text
from dmf_fast.cli.job import running_job
from dmf_fast.cli.problem import load_problem
from dmf_fast.cli.report import print_results
from dmf_fast.cli.settings import CompleteSettings
from dmf_fast.cli.train_and_write import begin, train_and_write


def complete(given: CompleteSettings) -> None:
    """Complete a matrix of ratings: train one model per depth and report how well it does.

    Without RATINGS the paper's own setting runs: rank 5, 100 x 100, 2,000 entries, depths 2 and 3.
    """
    settings = given.resolved()
    if settings.show_config:
        typer.echo(config_text("complete", settings), nl=False)
        return
    with running_job("complete", given) as folder:
        problem = load_problem(settings)
        begin(settings, problem, folder)
        results = train_and_write(settings, problem, folder)
    print_results(results, as_json=settings.as_json)
