"""A store of ratings: a folder from which the second run starts at once."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data.bad_rows import BadRows
from dmf_fast.data.errors import DataError
from dmf_fast.data.id_map import IdMap
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.ratings import Ratings
from dmf_fast.data.reader import read_ratings
from dmf_fast.data.sources import STORE_FACTS, Source, ratings_files
from dmf_fast.files.atomic import atomic_folder
from dmf_fast.files.identity import Identity, plain

_FORMAT, _VERSION = "dmf_fast ratings", 1
_ENTRIES, _ROW_IDS, _COLUMN_IDS = "entries.arrow", "row_ids.parquet", "column_ids.parquet"


def open_ratings(
    source: Source,
    options: ReadOptions = ReadOptions(),  # noqa: B008
    *,
    cache: str | os.PathLike[str] | None = None,
) -> Ratings:
    """Return the ratings of a store, or of files, which ``cache`` keeps as a store for the next time.

    ``cache``: a folder. It is used as long as the files (by path, size and time of change) and ``options``
    are those that it was made of, and made again where they are not or where it is damaged.

    Raises `DataError` as `read_ratings` and `load_ratings`.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "ratings.csv"
    ...     size = path.write_text("1,7,4.5")
    ...     first = open_ratings(path, cache=f"{folder}/cache")
    ...     open_ratings(path, cache=f"{folder}/cache").values.tolist()
    [4.5]
    """
    if isinstance(source, (str, os.PathLike)) and (Path(source) / STORE_FACTS).is_file():
        return load_ratings(source)
    if cache is None:
        return read_ratings(source, options)
    made_of = _origin(source, options)
    _refuse_other_folders(Path(cache))
    try:
        if _facts(Path(cache))["made_of"] == made_of:
            return load_ratings(cache)
    except DataError:
        pass  # Not there yet, or damaged: it is made again.
    ratings = read_ratings(source, options)
    if _origin(source, options) != made_of:
        raise DataError(f"{source} has changed while it was read; read it again")
    _write(ratings, Path(cache), made_of)
    return ratings


def save_ratings(ratings: Ratings, path: str | os.PathLike[str]) -> None:
    """Write a store, a folder: 12 bytes an entry (20 with times) that are mapped when it is loaded.

    The folder appears when it is whole, and replaces an older store.

    Raises `DataError` where ids are neither integers nor text, or where the folder holds something else, and
    `OSError` where it cannot be written.

    >>> import tempfile
    >>> from dmf_fast.data import as_ratings
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_ratings(as_ratings((["ann"], [7], [4.5])), f"{folder}/store")
    ...     load_ratings(f"{folder}/store").row_ids.ids.tolist()
    ['ann']
    """
    _write(ratings, Path(path), None)


def load_ratings(path: str | os.PathLike[str]) -> Ratings:
    """Return the ratings of a store; the arrays are mapped from its file and may not be written to.

    Raises `DataError` where it is missing, damaged or of another version.
    """
    path = Path(path)
    facts = _facts(path)
    try:
        with pa.memory_map(str(path / _ENTRIES)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
        arrays = {name: batch.column(name).to_numpy() for name in batch.schema.names}
        bad_rows = BadRows(facts["bad_rows"]["count"], tuple(facts["bad_rows"]["examples"]))
        maps = IdMap.load(path / _ROW_IDS), IdMap.load(path / _COLUMN_IDS)
        rows, columns = arrays.pop("rows"), arrays.pop("columns")
        return Ratings(rows, columns, *maps, bad_rows=bad_rows, **arrays)
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise DataError(f"{path} is a damaged store of ratings ({error}); write it again") from error


def _facts(path: Path) -> dict[str, Any]:
    """Return what the store says of itself, once its files have the sizes that it says."""
    try:
        facts: dict[str, Any] = json.loads((path / STORE_FACTS).read_text())
        if facts["format"] != _FORMAT or facts["version"] != _VERSION:
            raise DataError(
                f"{path} is a store of version {facts['version']}, this dmf_fast reads {_VERSION}; read the "
                "ratings again"
            )
        for name, size in facts["files"].items():
            if (path / name).stat().st_size != size:
                raise DataError(f"{path} is a damaged store: {name} has not its {size} bytes; write it again")
        return facts
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is not a store of ratings ({error}); name one, or files of ratings"
        ) from error


def _origin(source: Source, options: ReadOptions) -> Identity:
    """Return what decides the content of a store."""
    files = sorted({file.path.absolute() for file in ratings_files(source)})
    stats = [(str(path), path.stat()) for path in files]
    return {
        "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
        "options": plain(options),
    }


def _refuse_other_folders(path: Path) -> None:
    """Refuse to replace what is neither a store nor an empty folder."""
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not (path / STORE_FACTS).is_file():
        raise DataError(f"{path} is not a store of ratings, so it is not replaced; name another folder")


def _write(ratings: Ratings, path: Path, made_of: Identity | None) -> None:
    _refuse_other_folders(path)
    with atomic_folder(path) as partial:
        _write_entries(ratings, partial / _ENTRIES)
        ratings.row_ids.save(partial / _ROW_IDS)
        ratings.column_ids.save(partial / _COLUMN_IDS)
        sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        facts = {"format": _FORMAT, "version": _VERSION, "files": sizes, "made_of": made_of}
        facts |= _summary(ratings)
        (partial / STORE_FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def _write_entries(ratings: Ratings, path: Path) -> None:
    """Write one uncompressed record batch, so that each column is one stretch of the file."""
    columns: dict[str, NDArray[Any]] = {
        "rows": ratings.rows,
        "columns": ratings.columns,
        "values": ratings.values,
    }
    if ratings.times is not None:
        columns["times"] = ratings.times
    batch = pa.record_batch({name: pa.array(column) for name, column in columns.items()})
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)


def _summary(ratings: Ratings) -> dict[str, Any]:
    values: NDArray[Any] = ratings.values
    return {
        "entries": len(ratings),
        "shape": list(ratings.shape),
        "mean": float(values.mean(dtype=np.float64)) if len(values) else None,
        "least": float(values.min()) if len(values) else None,
        "greatest": float(values.max()) if len(values) else None,
        "bad_rows": asdict(ratings.bad_rows),
    }
