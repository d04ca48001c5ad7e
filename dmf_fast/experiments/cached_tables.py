"""Tables of results in a folder: each there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dmf_fast.files.atomic import atomic_file


def cached_table(file: Path, compute: Callable[[], pa.Table]) -> pa.Table:
    """Return the table in a Parquet file; where there is none, compute it and write it.

    Raises `OSError` where the file cannot be written, and what ``compute`` raises.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tables = [cached_table(Path(folder, "one"), lambda n=n: pa.table({"n": [n]})) for n in (1, 2)]
    >>> [table["n"].to_pylist() for table in tables]
    [[1], [1]]
    """
    if not file.exists():
        table = compute()
        with atomic_file(file) as partial:
            pq.write_table(table, partial)
    return pq.read_table(file)
