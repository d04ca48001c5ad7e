"""``dmf-fast recommend``: the best columns for one row that it has not rated yet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from dmf_fast.data import DataError
from dmf_fast.serving import recommend as recommend_columns
from dmf_fast.serving.trained_folder import TrainedFolder


@dataclass(frozen=True)
class RecommendSettings:
    """The options of ``recommend``."""

    folder: Annotated[Path, Argument(metavar="DIR", help="Folder that dmf-fast complete --out wrote.")]
    user: Annotated[str, Argument(help="Id of the row, as in the ratings.")]
    count: Annotated[int, Option(help="How many columns to recommend.", min=1)] = 10
    depth: Annotated[int | None, Option(help="Which run to use, where the folder holds several.")] = None
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of a table.")] = False


def recommend(settings: RecommendSettings) -> None:
    """Recommend to USER the items with the highest predictions among those not in the ratings."""
    trained = TrainedFolder.open(settings.folder, settings.depth)
    row = int(trained.row_ids.indices(pa.array([settings.user]))[0])
    if row < 0:
        raise DataError(
            f"The user {settings.user!r} is not among the {len(trained.row_ids)} of {settings.folder}; "
            f"give one that is in the ratings, such as {trained.row_ids.ids[0]}."
        )
    count = min(settings.count, len(trained.column_ids))
    best = recommend_columns(trained.two_factors, [row], count, seen=trained.seen)
    columns = best.columns[0, : int(best.counts)].numpy()
    # The order is that of the scores before they are clipped, so that the best are not one tie.
    predictions = trained.predictor.clipped(best.scores[0, : len(columns)].double().numpy())
    _print(settings, trained.column_ids.ids_at(columns).tolist(), predictions.tolist())


def _print(settings: RecommendSettings, ids: list[int] | list[str], predictions: list[float]) -> None:
    if settings.as_json:
        items = [
            {"column": item, "prediction": prediction}
            for item, prediction in zip(ids, predictions, strict=True)
        ]
        typer.echo(json.dumps({"row": settings.user, "recommendations": items}, indent=2))
        return
    table = Table("rank", "item", "prediction", title=f"For {settings.user}")
    for rank, (item, prediction) in enumerate(zip(ids, predictions, strict=True), start=1):
        table.add_row(str(rank), Text(str(item)), f"{prediction:.3f}")
    Console().print(table)
