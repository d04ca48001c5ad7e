"""Tables of results in a folder, written atomically."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dmf_fast.files.atomic import read_whole, remove_strays
from dmf_fast.files.digests import check_sums, summed_folder
from dmf_fast.files.reading import reading

_TABLE = "table"


def cached_table(folder: Path, compute: Callable[[], pa.Table]) -> pa.Table:
    """Return the table in a folder; compute and write it if it is missing or damaged.

    Raises an `OSError` if the folder cannot be written, and whatever ``compute`` raises.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tables = [cached_table(Path(folder, "one"), lambda n=n: pa.table({"n": [n]})) for n in (1, 2)]
    >>> [table["n"].to_pylist() for table in tables]
    [[1], [1]]
    """
    try:
        if folder.exists():
            remove_strays(folder)
            return read_whole(folder, lambda: _read(folder))
    except ValueError as error:
        warnings.warn(str(error), stacklevel=2)
    table = compute()
    with summed_folder(folder) as partial:
        pq.write_table(table, partial / _TABLE)
    return table


def _read(folder: Path) -> pa.Table:
    with reading(folder, "a table of results", "it is computed again"):
        check_sums(folder, (_TABLE,))
        return pq.read_table(folder / _TABLE)
