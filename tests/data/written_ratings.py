"""The same four ratings, written in every way that people write them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from dmf_fast.data import Pairs

ROWS: list[object] = [196, 186, 22, 196]
COLUMNS: list[object] = [242, 302, 377, 51]
VALUES = [3.0, 4.5, 1.0, 2.0]


def lines(separator: str, *, header: str = "", extra: str = "") -> str:
    """Return the ratings as lines."""
    entries = zip(ROWS, COLUMNS, VALUES, strict=True)
    body = [separator.join([str(row), str(column), f"{value:g}"]) + extra for row, column, value in entries]
    return "\n".join(([header] if header else []) + body) + "\n"


TEXTS = {
    "u.data": lines("\t", extra="\t881250949"),
    "ratings.dat": lines("::", extra="::881250949"),
    "ratings.csv": lines(",", header="userId,movieId,rating,timestamp", extra=",881250949"),
    "three.csv": lines(","),
    "semicolons.csv": lines(";", header="User-ID;ISBN;Book-Rating"),
    "bars.txt": lines("|"),
    "spaces.txt": lines(" "),
    "windows.csv": lines(",").replace("\n", "\r\n"),
    "no_last_newline.csv": lines(",").rstrip("\n"),
    "blank_lines.csv": "\n" + lines(",").replace("\n", "\n\n"),
    "byte_order_mark.csv": "\ufeff" + lines(",", header="user,item,rating"),
    "quoted.csv": lines(",", header='"user","item","rating"').replace("196", '"196"'),
}


def parquet(table: pa.Table) -> bytes:
    """Return the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def row_ids(pairs: Pairs) -> list[object]:
    """Return the row id of every entry."""
    ids: list[object] = pairs.row_ids.ids_at(pairs.rows).tolist()
    return ids


def column_ids(pairs: Pairs) -> list[object]:
    """Return the column id of every entry."""
    ids: list[object] = pairs.column_ids.ids_at(pairs.columns).tolist()
    return ids
