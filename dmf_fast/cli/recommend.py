"""``dmf-fast recommend``: the best columns for rows that have not rated them yet, or similar columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument

from dmf_fast.cli.model_choice import ModelChoice, check_target
from dmf_fast.cli.option import option
from dmf_fast.cli.recommend_many import read_users, write_recommendations
from dmf_fast.data import DataError, IdMap
from dmf_fast.serving import recommend as recommend_columns
from dmf_fast.serving import similar_columns
from dmf_fast.serving.trained_folder import TrainedFolder


@dataclass(frozen=True, kw_only=True)
class RecommendSettings(ModelChoice):
    """The options of ``recommend``."""

    user: Annotated[str | None, Argument(help="Id of the row, as in the ratings.")] = None
    all_users: Annotated[bool, option("Recommend to every row, into the file --out.", "--all")] = False
    users: Annotated[
        Path | None, option("File with one id of a row a line, to recommend to these, into --out.")
    ] = None
    similar: Annotated[str | None, option("Id of a column: show those most similar to it, for no user.")] = (
        None
    )
    count: Annotated[int, option("How many columns. [default: 10]", min=1)] = 10
    seen: Annotated[
        bool, option("Recommend what is in the ratings, too. [default: no]", "--seen/--no-seen")
    ] = False
    out: Annotated[Path | None, option("File of --all or --users, .csv or .parquet.")] = None
    overwrite: Annotated[bool, option("Replace the file --out.", "--overwrite")] = False
    as_json: Annotated[bool, option("Print one JSON object instead of a table.", "--json")] = False


def recommend(settings: RecommendSettings) -> None:
    """Recommend to USER the items with the highest predictions among those not in the ratings.

    --all and --users FILE recommend to many, into a file; --similar ITEM shows items like one.
    """
    _check(settings)
    trained = settings.opened()
    if settings.similar is not None:
        _show_similar(settings, trained, settings.similar)
    elif settings.user is not None:
        _show_for_user(settings, trained, settings.user)
    else:
        assert settings.out is not None
        users = trained.row_ids.ids if settings.users is None else read_users(settings.users)
        write_recommendations(trained, users, settings.count, settings.out, with_seen=settings.seen)
        typer.echo(f"{len(users):,} users, up to {settings.count} items each: {settings.out}")


def _check(settings: RecommendSettings) -> None:
    asked = {
        "USER": settings.user is not None,
        "--all": settings.all_users,
        "--users": settings.users is not None,
        "--similar": settings.similar is not None,
    }
    given = [name for name, is_given in asked.items() if is_given]
    if len(given) != 1:
        came = " and ".join(given) or "none of them"
        raise ValueError(f"Give one of USER, --all, --users FILE and --similar ITEM; {came} came.")
    to_file = settings.all_users or settings.users is not None
    if to_file != (settings.out is not None):
        raise ValueError("--out FILE belongs to --all and --users: give both, or neither.")
    if settings.out is not None:
        check_target(settings.out, (".csv", ".parquet"), overwrite=settings.overwrite)


def _show_for_user(settings: RecommendSettings, trained: TrainedFolder, user: str) -> None:
    row = _index(trained.row_ids, user, "user", settings.folder)
    count = min(settings.count, len(trained.column_ids))
    seen = None if settings.seen else trained.seen
    best = recommend_columns(trained.two_factors, [row], count, seen=seen)
    columns = best.columns[0, : int(best.counts)].numpy()
    # The order is that of the scores before they are clipped, so that the best are not one tie.
    predictions = trained.predictor.clipped(best.scores[0, : len(columns)].double().numpy())
    items = zip(trained.column_ids.ids_at(columns).tolist(), predictions.tolist(), strict=True)
    found = [{"column": item, "prediction": prediction} for item, prediction in items]
    _print(settings, {"row": user, "recommendations": found}, f"For {user}")


def _show_similar(settings: RecommendSettings, trained: TrainedFolder, item: str) -> None:
    column = _index(trained.column_ids, item, "item", settings.folder)
    nearest = similar_columns(trained.two_factors, [column], min(settings.count, len(trained.column_ids)))
    columns = nearest.indices[0][nearest.indices[0] >= 0].numpy()
    items = zip(trained.column_ids.ids_at(columns).tolist(), nearest.similarities[0].tolist(), strict=False)
    found = [{"column": other, "similarity": similarity} for other, similarity in items]
    _print(settings, {"column": item, "similar": found}, f"Like {item}")


def _index(ids: IdMap, wanted: str, kind: str, folder: Path) -> int:
    index = int(ids.indices(pa.array([wanted]))[0])
    if index < 0:
        raise DataError(
            f"The {kind} {wanted!r} is not among the {len(ids)} of {folder}; give one that is in the "
            f"ratings, such as {ids.ids[0]}."
        )
    return index


def _print(settings: RecommendSettings, found: dict[str, Any], title: str) -> None:
    if settings.as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _, items = found.values()
    measure = "similarity" if "similar" in found else "prediction"
    table = Table("rank", "item", measure, title=Text(title))
    for rank, item in enumerate(items, start=1):
        table.add_row(str(rank), Text(str(item["column"])), f"{item[measure]:.3f}")
    Console().print(table)
