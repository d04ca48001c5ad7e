"""What a job leaves in its folder: models, ids, baseline, history with plots, metrics, card and settings."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from dmf_fast.cli.baseline import save_biases
from dmf_fast.cli.config import config_text
from dmf_fast.cli.options import JobOptions
from dmf_fast.cli.problem import CompletionProblem
from dmf_fast.completion import CompletedMatrix
from dmf_fast.distributed import RowBlocks
from dmf_fast.distributed.trained_shards import fill_trained_folder_of_shards
from dmf_fast.evaluation import Biases
from dmf_fast.files.text import json_text
from dmf_fast.ops.statistics import mean_value
from dmf_fast.serving import DataFacts, ModelCard, Predictor, SeenColumns, TrainingFacts, model_card
from dmf_fast.serving.trained_folder import fill_trained_folder

CARD = "model_card.md"


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
    """Write all that ``dmf-fast complete --out`` leaves into a folder that is to be published.

    Where processes share the rows, all of them call it, and the first one has the folder.
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


def _write_the_rest(
    target: Path | None,
    options: JobOptions,
    models: Sequence[CompletedMatrix],
    results: dict[str, Any],
    card: str,
) -> None:
    """Write what people read, where this process has the folder."""
    from dmf_fast.cli.plots import plot_losses, plot_singular_values

    if target is None:
        return
    history = history_table(models)
    pq.write_table(history, target / "history.parquet")
    plot_losses(history, target / "losses.png")
    plot_singular_values(history, target / "singular_values.png")
    (target / "metrics.json").write_text(json_text(results) + "\n", encoding="utf-8")
    (target / "config.yaml").write_text(config_text("complete", options), encoding="utf-8")
    (target / CARD).write_text(card, encoding="utf-8")


def history_table(models: Sequence[CompletedMatrix]) -> pa.Table:
    """Return the histories of all searches, one below the other, with a column ``model`` in front."""
    tables = []
    for completed in models:
        history, depth = completed.history, completed.options.depth
        name = depth if depth == "auto" else f"depth {depth}"
        tables.append(history.add_column(0, "model", pa.array([name] * len(history), pa.string())))
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
        metrics=_metrics(results, best.depth, options.data.top_k),
        folder=str(options.output.out),
        versions={
            "dmf-fast": version("dmf-fast"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )


def _settings(options: JobOptions, best: CompletedMatrix) -> dict[str, Any]:
    """Return the options that were given, with the width that was found."""
    given = {name: value for name, value in options.fingerprint().items() if value is not None}
    return given | ({"hidden": f"auto: {best.widths[-1].width}"} if best.widths else {})


def _choices(completed: CompletedMatrix) -> dict[str, float]:
    """Return the validation RMSE of what was chosen among, by name."""
    return {one.name: one.validation_rmse for one in completed.candidates if one.validation_rmse is not None}


def _metrics(
    results: dict[str, Any], best_depth: int, top_k: int | None
) -> dict[str, dict[str, float | None]]:
    """Return the metrics of the models, the one that counts first, and of the baselines."""
    runs = sorted(results["runs"], key=lambda run: run["depth"] != best_depth)
    lines = {f"this model, depth {run['depth']}": run for run in runs} | results["baselines"]
    names = {"validation_rmse": "validation RMSE", "test_rmse": "test RMSE", "test_mae": "test MAE"}
    names |= {"recall": f"recall@{top_k}", "ndcg": f"NDCG@{top_k}"}
    measured = {n: shown for n, shown in names.items() if any(line[n] is not None for line in lines.values())}
    return {label: {shown: line[name] for name, shown in measured.items()} for label, line in lines.items()}
