"""``dmf-fast recommend``: the best items for users who have not rated them yet, or similar items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from dmf_fast.checks import printable
from dmf_fast.cli.model_options import RecommendOptions
from dmf_fast.cli.streams import shown
from dmf_fast.cli.targets import check_standard_input, check_target
from dmf_fast.data import DataError, IdMap, read_id_list
from dmf_fast.files.atomic import atomic_file
from dmf_fast.serving import Recommendations, similar_columns
from dmf_fast.serving import recommend as recommend_columns
from dmf_fast.serving.indices import filter_indices
from dmf_fast.serving.trained_folder import TrainedFolder

USERS_AT_ONCE = 1 << 14


def recommend(options: RecommendOptions) -> None:
    """Print the best columns of a row, or write those of many rows."""
    _check(options)
    trained = TrainedFolder.open(options.folder, options.depth)
    if options.similar is not None:
        _show_similar(options, trained, options.similar)
        return
    best = _Best(options, trained)
    if options.user is not None:
        _show_for_user(options, trained, best, options.user)
    else:
        assert options.out is not None
        users = trained.row_ids.ids if options.users is None else read_id_list(options.users)
        _write_recommendations(trained, best, users, options.out)
        click.echo(shown(f"{len(users):,} users, up to {options.count} items each: {options.out}"))


def _check(options: RecommendOptions) -> None:
    asked = {
        "USER": options.user is not None,
        "--all": options.all_users,
        "--users": options.users is not None,
        "--similar": options.similar is not None,
    }
    given = [name for name, is_given in asked.items() if is_given]
    if len(given) != 1:
        got = " and ".join(given) or "none of them"
        raise ValueError(f"Give one of USER, --all, --users FILE and --similar ITEM, got {got}")
    if options.similar is not None and not (options.candidates is None and options.exclude is None):
        raise ValueError("--candidates and --exclude are for recommendations; leave them out with --similar")
    to_file = options.all_users or options.users is not None
    if to_file != (options.out is not None):
        raise ValueError("--out FILE belongs to --all and --users: give both, or neither")
    inputs = {"--users": options.users}
    inputs |= {flag: _id_file(flag, text) for flag, text in _filters(options).items()}
    check_standard_input(inputs)
    if options.out is not None:
        inputs["MODEL"] = options.folder
        check_target(options.out, (".csv", ".parquet"), inputs, overwrite=options.overwrite)


class _Best:
    """Finds the best columns of rows, as the options say."""

    def __init__(self, options: RecommendOptions, trained: TrainedFolder) -> None:
        self._two_factors = trained.two_factors
        self._count = min(options.count, len(trained.column_ids))
        self._seen = None if options.seen else trained.seen
        self._candidates, self._exclude = (
            None if text is None else filter_indices(flag, _ids(flag, text), trained.column_ids)
            for flag, text in _filters(options).items()
        )

    def of(self, rows: Any) -> Recommendations:
        """Return the best columns of rows, of which some may be unknown (-1)."""
        return recommend_columns(
            self._two_factors,
            rows,
            self._count,
            seen=self._seen,
            candidates=self._candidates,
            exclude=self._exclude,
        )


def _filters(options: RecommendOptions) -> dict[str, str | None]:
    return {"--candidates": options.candidates, "--exclude": options.exclude}


def _id_file(flag: str, text: str | None) -> Path | None:
    if text == "@":
        raise _no_ids(flag, text)
    return Path(text[1:]) if text is not None and text.startswith("@") else None


def _ids(flag: str, text: str) -> Any:
    """Return the ids of a text ``ID,ID``, or of the file of ``@FILE``."""
    file = _id_file(flag, text)
    if file is not None:
        return read_id_list(file)
    ids = [one.strip() for one in text.split(",")]
    if not all(ids):
        raise _no_ids(flag, text)
    return pa.array(ids)


def _no_ids(flag: str, text: str) -> ValueError:
    return ValueError(f"`{flag}` must hold ids separated by commas, or @FILE, got {text!r}")


def _show_for_user(options: RecommendOptions, trained: TrainedFolder, best: _Best, user: str) -> None:
    found = best.of([_index(trained.row_ids, user, "user", options.folder)])
    columns = found.columns[0, : int(found.counts)].numpy()
    # The order is that of the scores before they are clipped, so that the best are not one tie.
    predictions = trained.predictor.clipped(found.scores[0, : len(columns)].double().numpy())
    items = zip(trained.column_ids.ids_at(columns).tolist(), predictions.tolist(), strict=True)
    recommendations = [{"item": item, "prediction": prediction} for item, prediction in items]
    _print(options, {"user": user, "recommendations": recommendations}, f"For {user}")


def _show_similar(options: RecommendOptions, trained: TrainedFolder, item: str) -> None:
    column = _index(trained.column_ids, item, "item", options.folder)
    nearest = similar_columns(trained.two_factors, [column], min(options.count, len(trained.column_ids)))
    columns = nearest.indices[0][nearest.indices[0] >= 0].numpy()
    items = zip(trained.column_ids.ids_at(columns).tolist(), nearest.similarities[0].tolist(), strict=False)
    found = [{"item": other, "similarity": similarity} for other, similarity in items]
    _print(options, {"item": item, "similar": found}, f"Like {item}")


def _index(ids: IdMap, wanted: str, kind: str, folder: Path) -> int:
    index = int(ids.indices(pa.array([wanted]))[0])
    if index < 0:
        raise DataError(
            f"The {kind} {wanted!r} is not among the {len(ids)} of {folder}; give one that is in the "
            f"ratings, such as {ids.ids[0]}"
        )
    return index


def _print(options: RecommendOptions, found: dict[str, Any], title: str) -> None:
    if options.as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    _, items = found.values()
    measure = "similarity" if "similar" in found else "prediction"
    table = Table("rank", "item", measure, title=Text(printable(title)))
    for rank, item in enumerate(items, start=1):
        table.add_row(str(rank), Text(printable(item["item"])), f"{item[measure]:.3f}")
    Console().print(table)


def _write_recommendations(trained: TrainedFolder, best: _Best, users: Any, out: Path) -> None:
    """Write the best items of every user into a CSV or Parquet file, which appears when it is whole.

    Columns: ``user``, ``rank`` from 1, ``item``, ``prediction`` and ``known``, which is False for a user
    that the model does not know: the items are then those of the highest bias. Memory is that of one block.

    Args:
        trained: the model.
        best: finds the items.
        users: ids, an array of pyarrow; those that the model does not know are allowed.
        out: ``.csv`` or ``.parquet``.

    Raises:
        DataError, OSError: the folder is damaged, the file cannot be written.

    """
    with atomic_file(out) as partial, _writer(partial, out.suffix, trained, users) as writer:
        for start in range(0, len(users), USERS_AT_ONCE):
            writer.write_table(_recommended(trained, best, users[start : start + USERS_AT_ONCE]))


def _recommended(trained: TrainedFolder, best: _Best, users: Any) -> pa.Table:
    found = best.of(trained.row_ids.indices(users))
    user, rank = np.nonzero(found.columns.numpy() >= 0)
    # In the order of the scores before they are clipped, so that the best are not one tie.
    predictions = trained.predictor.clipped(found.scores.double().numpy()[user, rank])
    columns = {
        "user": users.take(user),
        "rank": rank.astype(np.int32) + 1,
        "item": trained.column_ids.ids_at(found.columns.numpy()[user, rank]),
        "prediction": predictions,
        "known": found.known.numpy()[user],
    }
    return pa.table(columns, schema=_schema(trained, users))


def _schema(trained: TrainedFolder, users: Any) -> pa.Schema:
    return pa.schema(
        {
            "user": users.type,
            "rank": pa.int32(),
            "item": trained.column_ids.ids.type,
            "prediction": pa.float64(),
            "known": pa.bool_(),
        }
    )


@contextmanager
def _writer(partial: Path, suffix: str, trained: TrainedFolder, users: Any) -> Iterator[Any]:
    make = csv.CSVWriter if suffix == ".csv" else pq.ParquetWriter
    with make(str(partial), _schema(trained, users)) as writer:
        yield writer
