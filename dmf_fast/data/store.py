"""A store of ratings: a folder of memory-mapped entries, so that later runs start immediately."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.checks import printable
from dmf_fast.data.bad_rows import BadRows
from dmf_fast.data.errors import DataError
from dmf_fast.data.file_choice import STORE_FACTS, Source, is_store, ratings_files
from dmf_fast.data.id_map import IdMap
from dmf_fast.data.in_memory import as_ratings
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.ratings import Ratings
from dmf_fast.data.reader import ratings_of
from dmf_fast.data.sources import RatingsFile
from dmf_fast.files.atomic import atomic_folder, read_whole
from dmf_fast.files.digests import SUMS, check_sums, write_sums
from dmf_fast.files.identity import Identity, plain
from dmf_fast.files.reading import read_record, reading

_FORMAT, _VERSION = "dmf_fast ratings", 2
_ENTRIES, _ROW_IDS, _COLUMN_IDS = "entries.arrow", "row_ids.parquet", "column_ids.parquet"
_FILES = (_ENTRIES, _ROW_IDS, _COLUMN_IDS, STORE_FACTS)
_TYPES = {
    "rows": ("int32",),
    "columns": ("int32",),
    "values": ("float", "double"),
    "times": ("int64",),
}


class _BadRows(msgspec.Struct):
    count: Annotated[int, msgspec.Meta(ge=0)]
    examples: tuple[str, ...]


class _Facts(msgspec.Struct):
    """Facts about a store, as far as they are read again."""

    format: Literal["dmf_fast ratings"]
    version: int
    bad_rows: _BadRows
    made_of: dict[str, Any] | None


def open_ratings(
    source: Source | Any,
    options: ReadOptions = ReadOptions(),  # noqa: B008
    *,
    cache: str | os.PathLike[str] | None = None,
) -> Ratings:
    """Return the ratings of a store, of files, or of a table in memory.

    Args:
        source: a store; files as for `read_ratings`; or a data frame, an Arrow stream or anything else that
            `as_ratings` takes.
        options: how files and tables are read.
        cache: folder that keeps the ratings of files as a store for the next call. It is used as long as the
            files (by path, size and modification time) and ``options`` are unchanged; otherwise, or if it is
            damaged, it is written again.

    Raises:
        DataError: as for `read_ratings`, `load_ratings` and `as_ratings`; or ``cache`` is given with a pipe
            or with a table in memory.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "ratings.csv"
        ...     size = path.write_text("1,7,4.5")
        ...     first = open_ratings(path, cache=f"{folder}/cache")
        ...     open_ratings(path, cache=f"{folder}/cache").values.tolist()
        [4.5]

    """
    if not _is_source(source):
        if cache is not None:
            raise DataError("`cache` must be None for a table in memory; keep its ratings with save_ratings")
        return as_ratings(source, options)
    if isinstance(source, (str, os.PathLike)) and is_store(source):
        return load_ratings(source)
    if cache is None:
        return ratings_of(ratings_files(source), options)
    _refuse_other_folders(Path(cache))
    files = ratings_files(source)
    made_of = _origin(files, options)
    try:
        ratings, of = _load(Path(cache))
        if of == made_of:
            return ratings
    except (DataError, MemoryError):
        pass  # no usable cache yet: write one
    ratings = ratings_of(files, options)
    if _origin(ratings_files(source), options) != made_of:
        raise DataError(f"{source} has changed while it was read; read it again")
    _write(ratings, Path(cache), made_of)
    return ratings


def _is_source(source: Any) -> bool:
    """Return whether ``source`` is a path or a sequence of paths."""
    paths = source if isinstance(source, (list, tuple)) else [source]
    return all(isinstance(path, (str, os.PathLike)) for path in paths)


def save_ratings(ratings: Ratings, path: str | os.PathLike[str]) -> None:
    """Write a store, a folder of 12 bytes per entry (20 with times), which are mapped when it is loaded.

    The folder appears once it is complete, and replaces an older store.

    Args:
        ratings: with ids that are integers or text.
        path: the folder.

    Raises:
        DataError: ids are neither integers nor text, or the folder holds other files.
        OSError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_ratings(as_ratings((["ann"], [7], [4.5])), f"{folder}/store")
        ...     load_ratings(f"{folder}/store").row_ids.ids.tolist()
        ['ann']

    """
    _write(ratings, Path(path), None)


def load_ratings(path: str | os.PathLike[str]) -> Ratings:
    """Return the ratings of a store; the arrays are mapped from its file and read-only.

    All bytes are checked against their digests, which takes about a second per gigabyte.

    Args:
        path: the folder, see `save_ratings`.

    Raises:
        DataError: the store is missing, damaged or has another version.

    """
    return _load(Path(path))[0]


def _load(path: Path) -> tuple[Ratings, Identity | None]:
    """Return the ratings of a store and its origin, both of one version if it is replaced meanwhile."""
    return read_whole(path, lambda: _read(path))


def _read(path: Path) -> tuple[Ratings, Identity | None]:
    with reading(path, "a store of ratings", "name one, or files of ratings", DataError):
        facts = read_record(path / STORE_FACTS, _Facts)
        if facts.version != _VERSION:
            raise ValueError(f"it has version {facts.version}, but this dmf_fast reads version {_VERSION}")
        check_sums(path, _FILES)
        maps = IdMap.load(path / _ROW_IDS), IdMap.load(path / _COLUMN_IDS)
        bad_rows = BadRows(facts.bad_rows.count, facts.bad_rows.examples)
        arrays = _read_entries(path / _ENTRIES)
        for name, ids in zip(("rows", "columns"), maps, strict=True):
            indices = arrays[name]
            if len(indices) and not (indices.min() >= -1 and indices.max() < len(ids)):
                raise ValueError(f"its {name} are not from 0 to {len(ids) - 1}")
        if not np.isfinite(arrays["values"]).all():
            raise ValueError("its values are not finite")
        return Ratings(**arrays, row_ids=maps[0], column_ids=maps[1], bad_rows=bad_rows), facts.made_of


def _read_entries(path: Path) -> dict[str, Any]:
    """Return the columns of the file, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        if reader.num_record_batches != 1:
            raise ValueError(f"it holds {reader.num_record_batches} batches")
        batch = reader.get_batch(0)
    batch.validate(full=True)
    if any(column.null_count for column in batch.columns):
        raise ValueError("numbers are missing")
    kinds = {field.name: str(field.type) for field in batch.schema}
    expected = list(_TYPES)[: len(kinds)]
    if list(kinds) != expected or len(kinds) < 3 or any(kinds[name] not in _TYPES[name] for name in expected):
        raise ValueError(f"its columns are {kinds}")
    return {name: batch.column(name).to_numpy() for name in kinds}


def _origin(files: list[RatingsFile], options: ReadOptions) -> Identity:
    """Return what determines the content of a store; a `DataError` for pipes, where nothing does."""
    pipe = next((file for file in files if file.is_copy), None)
    if pipe is not None:
        raise DataError(
            f"{pipe} can be read only once, so it cannot be cached; write it to a file, or omit the cache"
        )
    stats = [(str(path), path.stat()) for path in sorted({file.path.absolute() for file in files})]
    return {
        "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
        "options": plain(options),
    }


def _refuse_other_folders(path: Path) -> None:
    """Raise a `DataError` if the folder holds anything other than a store."""
    if path.exists() and not (path.is_dir() and {file.name for file in path.iterdir()} <= {*_FILES, SUMS}):
        raise DataError(
            f"{printable(path)} is not a store of ratings or holds other files, so it is not replaced; "
            "name another folder"
        )


def _write(ratings: Ratings, path: Path, made_of: Identity | None) -> None:
    _refuse_other_folders(path)
    with atomic_folder(path) as partial:
        _write_entries(ratings, partial / _ENTRIES)
        ratings.row_ids.save(partial / _ROW_IDS)
        ratings.column_ids.save(partial / _COLUMN_IDS)
        facts = {"format": _FORMAT, "version": _VERSION, "made_of": made_of} | _summary(ratings)
        (partial / STORE_FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        write_sums(partial)


def _write_entries(ratings: Ratings, path: Path) -> None:
    """Write one uncompressed record batch, so that each column is contiguous in the file."""
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
