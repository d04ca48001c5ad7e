"""``dmf-fast report``: the page about a trained folder, made again from the folder alone."""

from __future__ import annotations

import click

from dmf_fast.cli.model_options import ReportOptions
from dmf_fast.cli.output_folder import CONFIG, HISTORY, METRICS, PAGE, held
from dmf_fast.cli.page import Served, page_of
from dmf_fast.cli.streams import shown
from dmf_fast.data import DataError
from dmf_fast.estimator.folder import ESTIMATOR
from dmf_fast.files.atomic import place_of
from dmf_fast.files.digests import replace_summed_file
from dmf_fast.files.reading import reading
from dmf_fast.serving.trained_folder import TrainedFolder


def report(options: ReportOptions) -> None:
    """Write ``report.html`` into a trained folder, in the place of an older one."""
    trained = TrainedFolder.open(options.folder)
    with held(options.folder):
        served = Served(
            trained.predictor, trained.two_factors, trained.row_ids, trained.column_ids, trained.seen
        )
        if METRICS not in trained.sums and ESTIMATOR in trained.sums:
            raise DataError(
                f"{options.folder} was written by MatrixCompleter.save, which stores no errors and learning "
                "curves for a page; train with dmf-fast complete --out"
            )
        for name in (METRICS, CONFIG, HISTORY):
            if trained.checked(name) is None:
                raise DataError(f"{options.folder} lacks {name}; train the model again")
        with reading(options.folder, "a folder of dmf-fast complete", "train the model again", DataError):
            page = page_of(trained.path, served, place_of(options.folder).name)
        replace_summed_file(trained.path, PAGE, page)
    click.echo(shown(f"The page is {options.folder / PAGE}"))
