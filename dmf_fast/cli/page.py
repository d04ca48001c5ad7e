"""``report.html``: what a job did and found, as one page for people.

The page is made from what the folder of the job holds: its metrics, settings and history, and its best model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dmf_fast.checks import printable
from dmf_fast.cli.config import parsed_yaml
from dmf_fast.cli.output_folder import CONFIG, HISTORY, METRICS, PAGE
from dmf_fast.cli.page_choice import choice_topic
from dmf_fast.cli.page_errors import error_topics, metrics_topic
from dmf_fast.cli.page_topic import Topic
from dmf_fast.cli.problem import in_folds
from dmf_fast.data import IdMap
from dmf_fast.evaluation.by_count import count_bins
from dmf_fast.evaluation.numbers import Integers
from dmf_fast.evaluation.popularity import column_counts
from dmf_fast.extras import is_installed, missing
from dmf_fast.page.content import Picture, ResultTable
from dmf_fast.page.rendering import page_environment, shown_duration, shown_number
from dmf_fast.serving import Predictor, SeenColumns, TwoFactors, recommend
from dmf_fast.training import History

_EXAMPLES, _RECOMMENDED = 3, 10
_OF_DEPTHS = {
    "depth": "depth",
    "steps": "steps",
    "train_loss": "train loss",
    "validation_rmse": "validation RMSE",
    "test_rmse": "test RMSE",
    "reconstruction_mse": "reconstruction MSE",
}


@dataclass(frozen=True, eq=False)
class Served:
    """The best model of a folder, with the ids and the training entries of its rows and columns."""

    predictor: Predictor
    two_factors: TwoFactors
    row_ids: IdMap
    column_ids: IdMap
    seen: SeenColumns


def page_of(folder: Path, served: Served, name: str) -> str:
    """Return the page about a job whose metrics, settings and history lie in ``folder``.

    The same folder gives the same text. What is missing for a part of the page is said in its place.

    Raises:
        OSError, ValueError: a file of the folder is missing or damaged.

    """
    results = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    settings = parsed_yaml((folder / CONFIG).read_text(encoding="utf-8"))
    depth = len(served.predictor.model.factors)
    best = next(run for run in results["runs"] if run["depth"] == depth)
    topics = [
        _data(results["data"], settings, served),
        metrics_topic(results, best, settings),
        choice_topic(best),
        *_others(results["runs"], best),
        _curves(_histories(folder / HISTORY)),
        *error_topics(best["evaluation"], results["data"]),
        _recommendations(served),
        _settings(settings),
        _timings(results),
    ]
    environment = page_environment("dmf_fast.cli")
    page: str = environment.get_template(f"{PAGE}.jinja").render(
        title=printable(name), version=results["version"], topics=topics
    )
    return page


def _data(data: Mapping[str, Any], settings: Mapping[str, Any], served: Served) -> Topic:
    """Return what was trained on: its size, its values, and how many entries rows and columns have."""
    rows, columns = served.seen.shape
    of_rows, of_columns = served.seen.offsets.diff().numpy(), column_counts(served.seen)
    facts = {
        "source": printable(settings["ratings"] or "the setting of the paper"),
        "rows (users)": f"{rows:,}, with {_spread(of_rows)} ratings each",
        "columns (items)": f"{columns:,}, with {_spread(of_columns)} ratings each",
        "ratings": f"{data['entries']:,}, {data['entries'] / (rows * columns):.3%} of the matrix",
        "values": f"from {served.predictor.lowest:g} to {served.predictor.highest:g}, "
        f"mean {shown_number(data['mean'], 4)}",
        "validation ratings": in_folds(data["validation_entries"], data["validation_folds"]),
        "test ratings": f"{data['test_entries']:,}",
        "rows of the files that were skipped": f"{data['bad_rows']:,}",
    }
    values = {
        "value": [_bounds(part["lowest"], part["highest"]) for part in data["values"]],
        "ratings": [part["count"] for part in data["values"]],
    }
    tables = [
        ResultTable(pa.table(values), "How often every value occurs.", bars=("ratings",)),
        _degrees(of_rows, of_columns),
    ]
    return Topic("Data", "", facts, tables=tables)


def _spread(counts: Integers) -> str:
    """Return the least, the median and the largest count in words."""
    return f"{counts.min():,} to {counts.max():,} (median {np.median(counts):,g})"


def _bounds(lowest: float, highest: float) -> str:
    return f"{lowest:g}" if lowest == highest else f"{lowest:.4g} … {highest:.4g}"


def _degrees(of_rows: Integers, of_columns: Integers) -> ResultTable:
    numbers = [np.bincount(count_bins(counts)[0]) for counts in (of_rows, of_columns)]
    length = max(map(len, numbers))
    users, items = (np.pad(one, (0, length - len(one))) for one in numbers)
    _, bounds = count_bins(of_rows)
    used = np.flatnonzero(users + items)
    table = {
        "ratings": [_between(*bounds[place]) for place in used],
        "users": users[used],
        "items": items[used],
    }
    return ResultTable(
        pa.table(table), "Users and items by their number of ratings.", bars=("users", "items")
    )


def _between(fewest: int, most: int) -> str:
    return f"{fewest:,}" if fewest == most else f"{fewest:,}–{most:,}"


def _others(runs: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Iterator[Topic]:
    """Give the models of other depths, where there are any."""
    if len(runs) == 1:
        return
    columns = {heading: [run[name] for run in runs] for name, heading in _OF_DEPTHS.items()}
    table = {name: numbers for name, numbers in columns.items() if set(numbers) != {None}}
    table["best"] = [run is best for run in runs]
    text = (
        "One model was trained for every depth. The best one has the lowest validation RMSE; without "
        "validation ratings it is the deepest. The rest of this page is about the best one."
    )
    yield Topic("All depths", text, tables=[ResultTable(pa.table(table), "The models.", digits=4)])


def _histories(path: Path) -> dict[str, History]:
    """Return the history of every model, by its name."""
    table = pq.read_table(path)
    models = table.column("model")
    rest = table.drop_columns(["model"])
    return {one: History(rest.filter(pc.equal(models, one))) for one in pc.unique(models).to_pylist()}


def _curves(histories: Mapping[str, History]) -> Topic:
    if not is_installed("matplotlib"):
        return Topic("Learning curves", f"{missing('This figure', 'matplotlib')}, then `dmf-fast report`.")
    from dmf_fast.cli.plots import losses_figure, singular_values_figure

    text = "\n\n".join(map(_phases, histories, histories.values()))
    caption = "Training loss, and validation and test RMSE where they were measured, over the steps."
    pictures = [Picture.of(losses_figure(histories), caption)]
    singular_values = singular_values_figure(histories)
    if singular_values is not None:
        caption = "The largest singular values of the product of the factors, over the steps."
        pictures.append(Picture.of(singular_values, caption))
    return Topic("Learning curves", text, figures=pictures)


def _phases(name: str, history: History) -> str:
    """Return where the runs of a search begin, each of which shows as a jump in the curves."""
    depths = history["depth"]
    begins = [place for place in range(1, len(depths)) if depths[place] != depths[place - 1]]
    if not begins:
        return ""
    later = ", ".join(f"depth {depths[place]:.0f} from step {history['step'][place]:.0f}" for place in begins)
    return f"The search ({name}) begins with depth {depths[0]:.0f}, then tries {later}."


def _recommendations(served: Served) -> Topic:
    """Return the best items for the users with the most, a median and the fewest ratings.

    Users who have rated all items are left out.
    """
    counts, of_items = served.seen.offsets.diff().numpy(), column_counts(served.seen)
    order = np.argsort(-counts, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, _EXAMPLES).astype(int))
    rows = order[places]
    best = recommend(served.two_factors, rows, min(_RECOMMENDED, len(served.column_ids)), seen=served.seen)
    tables = []
    for row, user, length, columns, scores in zip(
        rows, served.row_ids.ids_at(rows).to_pylist(), best.counts, best.columns, best.scores, strict=True
    ):
        if not length:
            continue
        items = columns[: int(length)].numpy()
        table = {
            "item": [printable(item) for item in served.column_ids.ids_at(items).to_pylist()],
            "prediction": served.predictor.clipped(scores[: int(length)].double().numpy()),
            "ratings_of_the_item": of_items[items],
        }
        ratings = "1 rating" if counts[row] == 1 else f"{counts[row]:,} ratings"
        caption = f"For user {printable(user)}, who has {ratings}."
        tables.append(ResultTable(pa.table(table), caption))
    text = (
        "The items with the highest predictions among those that a user has not rated, for the user with the "
        "most ratings, one with a median number, and the one with the fewest."
    )
    if len(tables) < len(rows):
        text += " Users who have rated all items are left out."
    return Topic("Examples of recommendations", text, tables=tables)


def _settings(settings: Mapping[str, Any]) -> Topic:
    """Return the options that differ from the defaults, and the others."""
    from dmf_fast.cli.options import PAPER_JOB, CompleteOptions

    defaults = (CompleteOptions() if settings["ratings"] else PAPER_JOB).values()
    changed = {name: _option(value) for name, value in settings.items() if value != defaults.get(name)}
    rest = {
        name: _option(value) for name, value in settings.items() if name not in changed and value is not None
    }
    text = (
        f"First the settings that differ from the defaults, then the defaults. `dmf-fast complete --config "
        f"{CONFIG}` trains with all of them again."
    )
    return Topic("Settings", text, changed, more_facts=rest)


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else printable(value)


def _timings(results: Mapping[str, Any]) -> Topic:
    seconds = results["seconds"]
    return Topic("Timings", "", {name: shown_duration(time) for name, time in seconds.items()})
