"""Reads ratings from the file formats that people have, through pyarrow and SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dmf_fast.data.errors import DataError
from dmf_fast.data.matrix_file import read_matrix_market, read_scipy_npz
from dmf_fast.data.parquet_table import read_parquet_table
from dmf_fast.data.raw_columns import ROLES, RawColumns
from dmf_fast.data.text_table import read_text_table


@dataclass(frozen=True)
class RatingsTable:
    """Ratings as they stand in a file, entry by entry.

    ``row_ids`` and ``column_ids``: pyarrow arrays of int64 or large_string; ``values``: float64, finite.
    """

    row_ids: pa.Array
    column_ids: pa.Array
    values: np.ndarray[tuple[int], np.dtype[np.float64]]

    def __len__(self) -> int:
        return len(self.values)


def read_ratings(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    separator: str | None = None,
    duplicates: Literal["error", "keep"] = "error",
    text_ids: tuple[bool, bool] = (False, False),
) -> RatingsTable:
    """Read row ids, column ids and values from a ratings file; its kind is found out from its content.

    Known are delimited text (with or without a header, also gzip: MovieLens ``u.data``, ``ratings.dat``
    and ``ratings.csv`` among it), Parquet, Matrix Market and ``scipy.sparse.save_npz``. The separator
    and the header are sniffed from the first lines. The indices of a Matrix Market file count from 1, as
    in the file, those of an ``.npz`` from 0.

    ``columns`` gives the names, or the positions from 1, of the row, column and value columns of a table;
    ``separator`` replaces the sniffed one; ``duplicates="error"`` refuses two values for one pair, ``"keep"``
    returns both; ``text_ids`` says for row ids and column ids whether even integers are read as text.

    Raises `DataError` where the file is missing, unreadable, empty or malformed, an id or a value is
    missing, a value is no finite number, or a pair stands twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ratings.csv"
    ...     lines = path.write_text(chr(10).join(["user,item,rating", "ann,7,4.5", "bob,9,3"]))
    ...     table = read_ratings(path)
    >>> table.row_ids.to_pylist(), table.column_ids.to_pylist(), table.values.tolist()
    (['ann', 'bob'], [7, 9], [4.5, 3.0])
    """
    path = Path(path)
    raw = _read_columns(path, columns, separator, text_ids, count=3)
    row_ids, column_ids = _checked_ids(path, raw)
    values = _checked_values(path, raw)
    if duplicates == "error":
        _refuse_duplicates(path, row_ids, column_ids, raw)
    return RatingsTable(row_ids, column_ids, values)


def read_pairs(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    separator: str | None = None,
    text_ids: tuple[bool, bool] = (False, False),
) -> tuple[pa.Array, pa.Array]:
    """Read the (row id, column id) pairs of a file; further columns, such as ratings, are not looked at.

    Arguments and errors are those of `read_ratings`; ``columns`` names two columns.
    """
    path = Path(path)
    return _checked_ids(path, _read_columns(path, columns, separator, text_ids, count=2))


def _read_columns(
    path: Path,
    columns: Sequence[str] | None,
    separator: str | None,
    text_ids: tuple[bool, bool],
    count: int,
) -> RawColumns:
    start = _first_bytes(path)
    if start.startswith(b"PAR1"):
        raw = read_parquet_table(path, columns=columns, count=count)
    elif start.startswith(b"PK\x03\x04") and path.suffix != ".zip":
        raw = read_scipy_npz(path)
    elif start.startswith(b"%%MatrixMarket") or path.name.endswith((".mtx", ".mtx.gz")):
        raw = read_matrix_market(path)
    elif path.suffix in (".parquet", ".npz"):
        raise DataError(
            f"{path} is not a {path.suffix} file (its first bytes say otherwise); write it again."
        )
    else:
        raw = read_text_table(path, columns=columns, separator=separator, text_ids=text_ids, count=count)
    if len(raw.arrays[0]) == 0:
        raise DataError(f"{path} holds no entries: at least one was expected; check the file.")
    return raw


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path.")
    if path.is_dir():
        raise DataError(f"{path} is a directory where a file was expected; name the file in it.")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if not start:
        raise DataError(f"{path} is empty (0 bytes): row, column and value were expected; check the file.")
    return start


def _checked_ids(path: Path, raw: RawColumns) -> tuple[pa.Array, pa.Array]:
    for role, array in zip(ROLES, raw.arrays, strict=False):
        if array.null_count:
            missing = pc.index(pc.is_null(array), True).as_py()
            raise DataError(
                f"{path}, {raw.place(missing)}: the {role} is missing; fill it in or drop the line."
            )
    row_ids, column_ids = (array.combine_chunks() for array in raw.arrays[:2])
    return row_ids, column_ids


def _checked_values(path: Path, raw: RawColumns) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    # What Arrow lends may not be written to, which torch warns of.
    values: np.ndarray[tuple[int], np.dtype[np.float64]] = np.require(raw.arrays[2].to_numpy(), None, "W")
    finite = np.isfinite(values)
    if not finite.all():
        wrong = int(finite.argmin())
        raise DataError(
            f"{path}, {raw.place(wrong)}: the {ROLES[2]} is {values[wrong]}, where a finite number was "
            "expected; mend or drop the line."
        )
    return values


def _refuse_duplicates(path: Path, row_ids: pa.Array, column_ids: pa.Array, raw: RawColumns) -> None:
    rows = row_ids.dictionary_encode().indices.to_numpy().astype(np.int64)
    columns = column_ids.dictionary_encode().indices.to_numpy().astype(np.int64)
    pairs = rows * (int(columns.max()) + 1) + columns
    order = np.argsort(pairs, kind="stable")
    again = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
    if again.size:
        second = int(again.min())
        first = int((pairs == pairs[second]).argmax())
        raise DataError(
            f"{path}, {raw.place(second)}: the pair ({row_ids[second]}, {column_ids[second]}) stands already "
            f"at {raw.place(first)}; remove one, or say which counts with --duplicates first, last or mean."
        )
