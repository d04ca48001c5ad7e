"""An evaluation as tables for the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from dmf_fast.evaluation.ranking import RankingMetrics
from dmf_fast.evaluation.results import Evaluation, RatingScores


def evaluation_tables(evaluation: Evaluation, name: str = "model") -> Group:
    """Return tables for ``rich.print``: errors, calibration and, if available, ranking metrics.

    Args:
        evaluation: the result of `evaluate`.
        name: name of the model.

    Example:
        >>> from dmf_fast import Observations
        >>> from dmf_fast.evaluation import HeldOut, evaluate, usual_baselines
        >>> train = Observations([0, 1], [0, 1], [1.0, 2.0])
        >>> test, baselines = HeldOut([0], [1], [2.0]), usual_baselines(train)
        >>> evaluation = evaluate(lambda rows, columns: rows * 1.0, train, test, baselines)
        >>> len(evaluation_tables(evaluation).renderables)
        2

    """
    name = escape(name)  # brackets are not markup here
    tables = [_errors(evaluation, name), _calibration(evaluation.model)]
    if evaluation.ranking is not None and evaluation.baseline_ranking is not None:
        tables.append(_ranking(evaluation.ranking, evaluation.baseline_ranking, name))
    return Group(*tables)


def _errors(evaluation: Evaluation, name: str) -> Table:
    heads = ("test ratings", "share", "errors", name, *evaluation.baselines)
    table = Table(*heads, title="Errors on the test ratings")
    models = [evaluation.model, *evaluation.baselines.values()]
    groups = {"all": None, **evaluation.coverage}
    for group, share in groups.items():
        errors = [scores.total if group == "all" else scores.by_group[group] for scores in models]
        if not errors[0].count and group != "all":
            continue
        shown = "" if share is None else f"{share:.1%}"
        kind = group.replace("row", "user").replace("column", "item")  # as in the commands for ratings
        label = f"{kind} ({errors[0].count:,})"
        table.add_row(label, shown, "RMSE", *(_number(part.rmse) for part in errors))
        table.add_row("", "", "MAE", *(_number(part.mae) for part in errors), end_section=True)
    missing = [scores.without_prediction for scores in models]
    if any(missing):
        table.add_row("without a prediction", "", "count", *(f"{count:,}" for count in missing))
    return table


def _calibration(scores: RatingScores) -> Table:
    table = Table("value", "ratings", "mean prediction", "bias", "RMSE", title="Predictions by true value")
    for part in scores.by_value:
        label = f"{part.lowest:g}" if part.lowest == part.highest else f"{part.lowest:g} … {part.highest:g}"
        table.add_row(
            label, f"{part.count:,}", _number(part.mean_prediction), f"{part.bias:+.4f}", _number(part.rmse)
        )
    return table


def _ranking(model: RankingMetrics, baseline: RankingMetrics, name: str) -> Table:
    title = f"First {model.cutoff} recommendations, {model.rows:,} rows, {model.rows_left_out:,} left out"
    table = Table("", name, "most popular", title=title)
    for measure in ("recall", "ndcg", "precision", "hit_rate", "mrr"):
        label = {"hit_rate": "hit rate", "mrr": "MRR", "ndcg": "NDCG"}.get(measure, measure)
        table.add_row(label, *(_number(getattr(metrics, measure)) for metrics in (model, baseline)))
    return table


def _number(number: float | None) -> str:
    return "-" if number is None else f"{number:.4f}"
