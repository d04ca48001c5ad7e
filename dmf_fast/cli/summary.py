"""Results of a job: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click

from dmf_fast.cli.options import JobOptions
from dmf_fast.cli.problem import CompletionProblem
from dmf_fast.cli.streams import shown
from dmf_fast.completion import CompletedMatrix
from dmf_fast.evaluation import Evaluation, RankingMetrics, RatingScores
from dmf_fast.files.text import json_text
from dmf_fast.ops.statistics import mean_value
from dmf_fast.ops.value_histogram import value_histogram

if TYPE_CHECKING:
    from rich.table import Table

# Columns of the table, which fits 80 characters: heading and format by name.
_COLUMNS = {
    "steps": ("steps", "{:,}"),
    "seconds": ("seconds", "{:.1f}"),
    "train_loss": ("train\nloss", "{:.3g}"),
    "validation_rmse": ("valid.\nRMSE", "{:.4f}"),
    "test_rmse": ("test\nRMSE", "{:.4f}"),
    "test_mae": ("test\nMAE", "{:.4f}"),
    "reconstruction_mse": ("matrix\nMSE", "{:.3g}"),
}
_STEPS_OF = "Steps of a model include its whole search; those of a candidate are the ones that led to it."
_RANKING_COLUMNS = {"recall": ("recall", "{:.4f}"), "ndcg": ("NDCG", "{:.4f}")}


def results_of(
    options: JobOptions,
    problem: CompletionProblem,
    models: Sequence[CompletedMatrix],
    evaluations: Sequence[Evaluation | None],
    validation_rmses: dict[str, float | None],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return all results, ready for JSON.

    Args:
        options: of the job.
        problem: what was trained on.
        models: the trained models.
        evaluations: of the models on the test ratings.
        validation_rmses: of the baselines, by name.
        seconds: how long each part of the job took, by its name.

    """
    evaluation = evaluations[0]
    groups = {} if evaluation is None else evaluation.model.by_group
    return {
        "version": version("dmf-fast"),
        "out": None if options.output.out is None else str(options.output.out),
        "data": {
            "rows": problem.row_count,
            "columns": problem.observed.shape[1],
            "entries": len(problem.observed),
            "mean": mean_value(problem.observed),
            "values": [part.as_dict() for part in value_histogram(problem.observed)],
            "bad_rows": problem.bad_rows,
            "validation_entries": problem.validation_count,
            "validation_folds": len(problem.folds),
            "test_entries": 0 if problem.test is None else len(problem.test),
            "test_entries_with_unknown_ids": sum(
                errors.count for group, errors in groups.items() if group != "both known"
            ),
        },
        "runs": [_run(options, *one) for one in zip(models, evaluations, strict=True)],
        "baselines": _baselines(options, evaluation, validation_rmses),
        "seconds": dict(seconds),
    }


def metrics_of(
    results: Mapping[str, Any], best_depth: int, top_k: int | None
) -> dict[str, dict[str, float | None]]:
    """Return the metrics of the models, the best one first, and of the baselines, by their headings."""
    runs = sorted(results["runs"], key=lambda run: run["depth"] != best_depth)
    lines = {f"this model, depth {run['depth']}": run for run in runs} | results["baselines"]
    names = {"validation_rmse": "validation RMSE", "test_rmse": "test RMSE", "test_mae": "test MAE"}
    names |= {"recall": f"recall@{top_k}", "ndcg": f"NDCG@{top_k}"}
    measured = {n: shown for n, shown in names.items() if any(line[n] is not None for line in lines.values())}
    return {label: {shown: line[name] for name, shown in measured.items()} for label, line in lines.items()}


def print_results(results: dict[str, Any], *, as_json: bool) -> None:
    """Print the results on standard output: one JSON object, or a short table."""
    if as_json:
        click.echo(json_text(results))
        return
    from rich.console import Console

    console, data, runs = Console(), results["data"], results["runs"]
    title = f"{data['rows']:,} x {data['columns']:,}, {data['entries']:,} entries, {runs[0]['optimizer']}"
    console.print(_table(results, _COLUMNS, title))
    if any(run["recall"] is not None for run in runs):
        console.print(_table(results, _RANKING_COLUMNS, "Recommendations to the rows of the test ratings"))
    if results["out"] is not None:
        click.echo(shown(f"Written to {results['out']}"))
    else:
        click.echo("Not saved: pass `--out FOLDER` to keep the model.")


def _table(results: dict[str, Any], columns: dict[str, tuple[str, str]], title: str) -> Table:
    """Return the models and, below them, the baselines, with the columns that any of them has."""
    from rich.table import Column, Table

    runs = [line for run in results["runs"] for line in _lines(run)]
    lines = runs + [(name.replace("_", " "), line) for name, line in results["baselines"].items()]
    shown = [name for name in columns if any(line.get(name) is not None for _, line in lines)]
    # Where a line is too long, the label wraps and no number is cut.
    headings = (Column(columns[name][0], no_wrap=True) for name in shown)
    has_candidates = "steps" in columns and any(len(_lines(run)) > 1 for run in results["runs"])
    table = Table(
        Column("", min_width=8), *headings, title=title, caption=_STEPS_OF if has_candidates else None
    )
    for place, (label, line) in enumerate(lines, start=1):
        cells = ["-" if line.get(name) is None else columns[name][1].format(line[name]) for name in shown]
        if set(cells) != {"-"}:
            table.add_row(label, *cells, end_section=place == len(runs))
    return table


def _lines(run: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the line of a model and, if it was chosen among several, those of the others."""
    others = [
        (one["name"], one) for one in run["candidates"] if one["depth"] and one["name"] != run["chosen"]
    ]
    automatic = ", auto" if run["asked_depth"] == "auto" else ""
    return [(f"{run['chosen']}{automatic}", run), *((f"  {name}", one) for name, one in others)]


def _run(options: JobOptions, completed: CompletedMatrix, evaluation: Evaluation | None) -> dict[str, Any]:
    last = completed.chosen.runs[-1] if completed.chosen.runs else completed.search[-1]
    return {
        "depth": completed.depth,
        "asked_depth": completed.options.depth,
        "chosen": completed.chosen.name,
        "candidates": [
            {
                "name": one.name,
                "depth": one.depth,
                "validation_rmse": one.validation_rmse,
                "steps": sum(run.steps for run in one.runs),
                "stopped_because": one.runs[-1].result.stopped_because if one.runs else None,
            }
            for one in completed.candidates
        ],
        "left_start": completed.left_start,
        "optimizer": completed.options.optimizer,
        "engine": completed.result.engine,
        "steps": completed.steps,
        "seconds": completed.seconds,
        "train_loss": completed.train_loss,
        "validation_rmse": completed.validation_rmse,
        **_test_errors(None if evaluation is None else evaluation.model, options.data.unknown),
        **_ranking(None if evaluation is None else evaluation.ranking),
        "reconstruction_mse": completed.reconstruction_mse,
        "best_step": completed.best_step,
        "stopped_because": last.result.stopped_because,
        "widths": [asdict(trial) for trial in completed.widths],
        "refit": bool(completed.refit),
        "refit_steps": completed.refit_steps or None,
        "weight_decay": completed.options.weight_decay,
        "bias_weight_decay": completed.options.bias_weight_decay,
        "evaluation": None if evaluation is None else evaluation.as_dict(),
    }


def _baselines(
    options: JobOptions, evaluation: Evaluation | None, validation_rmses: dict[str, float | None]
) -> dict[str, dict[str, float | None]]:
    baselines = {
        name: {
            "validation_rmse": rmse,
            **_test_errors(None if evaluation is None else evaluation.baselines[name], options.data.unknown),
            **_ranking(None),
        }
        for name, rmse in validation_rmses.items()
    }
    if evaluation is not None and evaluation.baseline_ranking is not None:
        errors = {"validation_rmse": None, **_test_errors(None, options.data.unknown)}
        baselines["most_popular"] = errors | _ranking(evaluation.baseline_ranking)
    return baselines


def _ranking(metrics: RankingMetrics | None) -> dict[str, float | None]:
    if metrics is None:
        return {"recall": None, "ndcg": None}
    return {"recall": metrics.recall, "ndcg": metrics.ndcg}


def _test_errors(scores: RatingScores | None, unknown: str) -> dict[str, float | None]:
    """Return the errors on all test pairs, or only on pairs of known ids if ``unknown`` is "nan"."""
    if scores is None:
        return {"test_rmse": None, "test_mae": None}
    errors = scores.by_group["both known"] if unknown == "nan" else scores.total
    return {"test_rmse": errors.rmse, "test_mae": errors.mae}
