"""Writes the folder of a job: models, ids, baseline, history, metrics, settings, model card and page."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from dmf_fast.cli.baseline import save_biases
from dmf_fast.cli.config import config_text
from dmf_fast.cli.options import JobOptions
from dmf_fast.cli.output_folder import CONFIG, HISTORY, METRICS, PAGE
from dmf_fast.cli.problem import CompletionProblem
from dmf_fast.cli.streams import say
from dmf_fast.cli.summary import metrics_of
from dmf_fast.completion import CompletedMatrix
from dmf_fast.data import IdMap
from dmf_fast.distributed import RowBlocks
from dmf_fast.distributed.trained_shards import fill_trained_folder_of_shards
from dmf_fast.evaluation import Biases
from dmf_fast.extras import is_installed, missing
from dmf_fast.files.atomic import place_of
from dmf_fast.files.reading import short_reason
from dmf_fast.files.text import json_text
from dmf_fast.ops.statistics import mean_value
from dmf_fast.serving import DataFacts, ModelCard, Predictor, SeenColumns, TrainingFacts, collapse, model_card
from dmf_fast.serving.model_card import CARD
from dmf_fast.serving.trained_folder import fill_trained_folder
from dmf_fast.training import History


def write_output(
    target: Path | None,
    options: JobOptions,
    problem: CompletionProblem,
    models: Sequence[CompletedMatrix],
    predictors: Sequence[Predictor],
    seen: SeenColumns,
    biases: Biases,
    results: dict[str, Any],
) -> None:
    """Write everything that ``dmf-fast complete --out`` produces into a folder that is about to be published.

    If processes share the rows, all of them call it, and the first one has the folder.
    """
    best_first = sorted(zip(models, predictors, strict=True), key=lambda pair: pair[0].merit)
    best_predictors = [predictor for _, predictor in best_first]
    observed = problem.observed
    if isinstance(observed, RowBlocks):
        assert options.ratings is not None
        fill_trained_folder_of_shards(target, best_predictors, observed, options.ratings, biases)
    else:
        assert target is not None
        assert problem.row_ids is not None
        fill_trained_folder(target, best_predictors, problem.row_ids, problem.column_ids, seen)
        save_biases(biases, target)
    card = model_card(_card(options, problem, *best_first[0], results))
    observed.sharding.together(lambda: _write_the_rest(target, options, models, results, card))
    if problem.row_ids is None:
        text = (
            f"{PAGE} is skipped for row blocks, which may not fit one process; `dmf-fast report` writes it."
        )
        say(text, quiet=options.output.quiet)
    elif target is not None:
        _write_page(target, options, best_predictors[0], problem.row_ids, problem.column_ids, seen)


def _write_the_rest(
    target: Path | None,
    options: JobOptions,
    models: Sequence[CompletedMatrix],
    results: dict[str, Any],
    card: str,
) -> None:
    """Write the files that people read, in the process that has the folder."""
    if target is None:
        return
    histories = {_name(completed): completed.history for completed in models}
    pq.write_table(history_table(histories), target / HISTORY)
    (target / METRICS).write_text(json_text(results) + "\n", encoding="utf-8")
    (target / CONFIG).write_text(config_text("complete", options), encoding="utf-8")
    (target / CARD).write_text(card, encoding="utf-8")


def _write_page(
    target: Path,
    options: JobOptions,
    best: Predictor,
    row_ids: IdMap,
    column_ids: IdMap,
    seen: SeenColumns,
) -> None:
    """Write the page; a failure is only a warning, as the model matters more."""
    from dmf_fast.cli import page  # here, as Jinja2 is only needed with a folder

    assert options.output.out is not None
    if not is_installed("matplotlib"):
        say(f"{PAGE} has no figures: {missing('the figure', 'matplotlib')}", quiet=options.output.quiet)
    try:
        served = page.Served(best, collapse(best.model), row_ids, column_ids, seen)
        text = page.page_of(target, served, place_of(options.output.out).name)
        (target / PAGE).write_text(text, encoding="utf-8")
    except Exception as error:
        (target / PAGE).unlink(missing_ok=True)
        say(f"Warning: {PAGE} could not be written ({short_reason(error)}); dmf-fast report tries again.")


def _name(completed: CompletedMatrix) -> str:
    """Return the name of a model among those of a job."""
    depth = completed.options.depth
    return depth if isinstance(depth, str) else f"depth {depth}"


def history_table(histories: Mapping[str, History]) -> pa.Table:
    """Return the histories of all models in one table, with a first column ``model``."""
    tables = [
        history.table.add_column(0, "model", pa.array([name] * history.table.num_rows, pa.string()))
        for name, history in histories.items()
    ]
    return pa.concat_tables(tables, promote_options="default")


def _card(
    options: JobOptions,
    problem: CompletionProblem,
    best: CompletedMatrix,
    predictor: Predictor,
    results: dict[str, Any],
) -> ModelCard:
    observed = problem.observed
    rows, columns = problem.row_count, observed.shape[1]
    lowest, highest, mean = predictor.lowest, predictor.highest, mean_value(observed)
    return ModelCard(
        title="Ratings completed" if options.output.out is None else options.output.out.name,
        data=DataFacts((problem.source,), rows, columns, len(observed), lowest, highest, mean),
        settings=_settings(options, best),
        training=TrainingFacts(best.steps, best.seconds, best.chosen.name, _choices(best)),
        metrics=metrics_of(results, best.depth, options.data.top_k),
        folder=str(options.output.out),
        versions={
            "dmf-fast": version("dmf-fast"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )


def _settings(options: JobOptions, best: CompletedMatrix) -> dict[str, Any]:
    """Return the options that are set, with the width that was found."""
    given = {name: value for name, value in options.fingerprint().items() if value is not None}
    return given | ({"hidden": f"auto: {best.widths[-1].width}"} if best.widths else {})


def _choices(completed: CompletedMatrix) -> dict[str, float]:
    """Return the validation RMSE of the candidates, by name."""
    return {one.name: one.validation_rmse for one in completed.candidates if one.validation_rmse is not None}
