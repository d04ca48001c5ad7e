"""``dmf-fast recommend``: the best columns for one row that it has not rated yet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from dmf_fast.cli.trained_folder import TrainedFolder, open_trained_folder
from dmf_fast.data import DataError


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
    trained = open_trained_folder(settings.folder, settings.depth)
    row = int(trained.row_ids.indices(pa.array([settings.user]))[0])
    if row < 0:
        raise DataError(
            f"The user {settings.user!r} is not among the {len(trained.row_ids)} of {settings.folder}; "
            f"give one that is in the ratings, such as {trained.row_ids.ids[0]}."
        )
    columns, predictions = _best_unseen(trained, row, _seen_columns(settings.folder, row), settings.count)
    ids = trained.column_ids.ids_at(columns).to_pylist()
    _print(settings, ids, predictions.tolist())


def _seen_columns(folder: Path, row: int) -> np.ndarray:
    path = folder / "observed.parquet"
    try:
        seen = pq.read_table(path, columns=["column"], filters=[("row", "==", row)])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); run dmf-fast complete again.") from error
    columns: np.ndarray = seen.column("column").to_numpy()
    return columns


def _best_unseen(
    trained: TrainedFolder, row: int, seen: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the column indices with the highest predictions, best first, and those predictions."""
    unseen = np.setdiff1d(np.arange(len(trained.column_ids)), seen, assume_unique=True)
    scores = trained.predictor.predict(np.full(len(unseen), row), unseen, clip=False)
    # A stable sort on the unclipped scores: ties go to the smaller id, and the clipped top is not one tie.
    best = np.argsort(-scores, kind="stable")[:count]
    return unseen[best], trained.predictor.clipped(scores[best])


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
