"""How good a model is, compared with the baselines, as parts of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from dmf_fast.cli.page_topic import Topic
from dmf_fast.cli.summary import metrics_of
from dmf_fast.page.content import ResultTable

_NOT_MEASURED = (
    "No test ratings were given. With `--test FILE`, the page also shows errors on ratings that the model "
    "has not seen, by value and by number of ratings, and with `--top-k` how good recommendations are."
)


def metrics_topic(results: Mapping[str, Any], best: Mapping[str, Any], settings: Mapping[str, Any]) -> Topic:
    """Return the errors of the models next to those of the baselines."""
    lines = metrics_of(results, best["depth"], settings["top_k"])
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    table = {"": [name.replace("_", " ") for name in lines]}
    table |= {name: pa.array([line[name] for line in lines.values()], pa.float64()) for name in names}
    text = "" if results["data"]["test_entries"] else _NOT_MEASURED
    others = ["the mean rating", "biases of users and items"]
    others += ["popularity"] if "most_popular" in lines else []
    caption = f"The model compared with {', '.join(others[:-1])} and {others[-1]}."
    tables = [ResultTable(pa.table(table), caption, digits=4)] if names else []
    return Topic("How good it is", text, tables=tables)


def error_topics(evaluation: Mapping[str, Any] | None, data: Mapping[str, Any]) -> Iterator[Topic]:
    """Give the errors in detail, where test ratings were given."""
    if evaluation is None or not data["test_entries"]:
        return
    models = {"model": evaluation["model"], **evaluation["baselines"]}
    yield Topic("Errors by value", tables=[_by_value(models)])
    tables = [
        _by_count(models, "errors_by_row_ratings", "user"),
        _by_count(models, "errors_by_column_ratings", "item"),
    ]
    if data["test_entries_with_unknown_ids"]:
        tables.append(_by_group(models))
    text = "Errors are usually larger for users and items with few training ratings."
    yield Topic("Errors by number of ratings", text, tables=tables)
    text = (
        "Predictions are calibrated where the bias is near 0: the mean rating in a bin of predictions then "
        "equals the mean prediction."
    )
    yield Topic("Calibration", text, tables=[_calibration(models["model"])])


def _by_value(models: Mapping[str, Any]) -> ResultTable:
    bins = models["model"]["calibration_by_value"]
    table = _bins(bins, "value", "test_ratings") | {
        "mean_prediction": [part["mean_prediction"] for part in bins],
        "bias": [part["bias"] for part in bins],
        **_rmses(models, lambda scores: scores["calibration_by_value"]),
    }
    caption = "Errors by the value of the test rating. The bias is the mean prediction minus the mean value."
    return ResultTable(pa.table(table), caption, bars=("test_ratings", "RMSE_of_the_model"))


def _rmses(models: Mapping[str, Any], bins: Callable[[Mapping[str, Any]], Any]) -> dict[str, list[float]]:
    """Return a column for every model with the RMSE in each of its bins."""
    return {f"RMSE_of_the_{name}": [part["rmse"] for part in bins(one)] for name, one in models.items()}


def _calibration(scores: Mapping[str, Any]) -> ResultTable:
    bins = scores["calibration_by_prediction"]
    table = _bins(bins, "prediction", "test_ratings") | {
        "mean_prediction": [part["mean_prediction"] for part in bins],
        "mean_rating": [part["mean_value"] for part in bins],
        "bias": [part["bias"] for part in bins],
    }
    return ResultTable(pa.table(table), "Test ratings in bins of their predictions.", bars=("bias",))


def _bins(bins: list[dict[str, Any]], key: str, count: str) -> dict[str, Any]:
    bounds = [(part["lowest"], part["highest"]) for part in bins]
    shown = [f"{low:.3g}" if low == high else f"{low:.3g} … {high:.3g}" for low, high in bounds]
    return {key: shown, count: [part["count"] for part in bins]}


def _by_count(models: Mapping[str, Any], key: str, kind: str) -> ResultTable:
    bins = models["model"][key]
    bounds = [(part["fewest"], part["most"]) for part in bins]
    table: dict[str, Any] = {
        f"training_ratings_of_the_{kind}": [f"{a:,}" if a == b else f"{a:,}–{b:,}" for a, b in bounds],
        "test_ratings": [part["count"] for part in bins],
        **_rmses(models, lambda scores: scores[key]),
    }
    caption = f"Errors by how many training ratings the {kind} has."
    return ResultTable(pa.table(table), caption, bars=("RMSE_of_the_model",))


def _by_group(models: Mapping[str, Any]) -> ResultTable:
    groups = [name for name, errors in models["model"]["by_group"].items() if errors["count"]]
    table: dict[str, Any] = {
        "ids": [name.replace("row", "user").replace("column", "item") for name in groups],
        "test_ratings": [models["model"]["by_group"][name]["count"] for name in groups],
    }
    table |= _rmses(models, lambda scores: [scores["by_group"][name] for name in groups])
    return ResultTable(pa.table(table), "Errors by which ids of a pair occur in the training ratings.")
