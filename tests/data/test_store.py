"""A store returns what was written, is rewritten when needed, and is complete or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dmf_fast.data import (
    DataError,
    IdMap,
    Ratings,
    ReadOptions,
    as_ratings,
    load_ratings,
    open_ratings,
    read_ratings,
    save_ratings,
    store,
)
from dmf_fast.data.reader import ratings_of
from dmf_fast.data.sources import RatingsFile
from dmf_fast.files.digests import write_sums
from tests.data.written_ratings import TEXTS

TIMED = ReadOptions(times=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.csv"
    path.write_text(TEXTS["ratings.csv"] + "1,2,bad,3\n")
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the store has read from files, rather than loaded, so far."""
    seen: list[object] = []

    def counted(files: list[RatingsFile], options: ReadOptions) -> Ratings:
        seen.extend(file.path for file in files)
        return ratings_of(files, options)

    monkeypatch.setattr(store, "ratings_of", counted)
    return seen


def assert_same(one: Ratings, other: Ratings) -> None:
    for name in ("rows", "columns", "values", "times"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert one.row_ids.ids.equals(other.row_ids.ids)
    assert one.column_ids.ids.equals(other.column_ids.ids)
    assert one.bad_rows == other.bad_rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_store_gives_back_what_was_saved(source: Path, tmp_path: Path, dtype: str) -> None:
    ratings = read_ratings(source, ReadOptions(times=True, dtype=dtype))  # type: ignore[arg-type]
    save_ratings(ratings, tmp_path / "store")

    loaded = load_ratings(tmp_path / "store")

    assert_same(loaded, ratings)
    assert loaded.observations().nnz == 4
    assert not loaded.values.flags.writeable
    facts = json.loads((tmp_path / "store" / "store.json").read_text())
    assert (facts["entries"], facts["least"], facts["greatest"], facts["mean"]) == (4, 1.0, 4.5, 2.625)


def test_the_second_opening_reads_no_file(source: Path, tmp_path: Path, reads: list[object]) -> None:
    first = open_ratings(source, TIMED, cache=tmp_path / "cache")
    second = open_ratings(source, TIMED, cache=tmp_path / "cache")

    assert_same(second, first)
    assert reads == [source]
    assert_same(open_ratings(tmp_path / "cache"), first)


def test_a_cache_within_the_folder_that_it_keeps_is_none_of_its_files(
    source: Path, tmp_path: Path, reads: list[object]
) -> None:
    source.rename(tmp_path / "a.csv")
    for _ in range(2):
        assert len(open_ratings(tmp_path, cache=tmp_path / "cache")) == 4
    assert reads == [tmp_path / "a.csv"]


def test_other_options_are_read_again(source: Path, tmp_path: Path, reads: list[object]) -> None:
    open_ratings(source, cache=tmp_path / "cache")

    assert open_ratings(source, TIMED, cache=tmp_path / "cache").times is not None
    assert len(reads) == 2


def test_a_changed_source_is_read_again(source: Path, tmp_path: Path, reads: list[object]) -> None:
    open_ratings(source, cache=tmp_path / "cache")
    source.write_text(TEXTS["ratings.csv"].replace("4.5", "3.5"))
    os.utime(source, ns=(0, 1))

    assert 3.5 in open_ratings(source, cache=tmp_path / "cache").values
    assert len(reads) == 2


def folder_for(name: str) -> Callable[[Path], object]:
    """Return what puts a folder into the place of a file."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name / "inside").mkdir(parents=True)

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "entries cut": lambda folder: os.truncate(folder / "entries.arrow", 100),
    "entries of other bytes": lambda folder: (folder / "entries.arrow").write_bytes(
        bytes((folder / "entries.arrow").stat().st_size)
    ),
    "ids missing": lambda folder: (folder / "row_ids.parquet").unlink(),
    "ids of the other side": lambda folder: shutil.copy(
        folder / "column_ids.parquet", folder / "row_ids.parquet"
    ),
    "ids in a folder": folder_for("row_ids.parquet"),
    "facts missing": lambda folder: (folder / "store.json").unlink(),
    "facts in a folder": folder_for("store.json"),
    "facts damaged": lambda folder: (folder / "store.json").write_text("{"),
    "facts of another form": lambda folder: (folder / "store.json").write_text("[]"),
    "facts of other types": lambda folder: (folder / "store.json").write_text('{"format": 1}'),
    "facts too deep": lambda folder: (folder / "store.json").write_text("[" * 200_000),
    "facts that are no text": lambda folder: (folder / "store.json").write_bytes(b"\xff\0"),
    "sums missing": lambda folder: (folder / "SHA256SUMS").unlink(),
    "sums in a folder": folder_for("SHA256SUMS"),
    "one file alone": lambda folder: [
        file.unlink() for file in list(folder.iterdir()) if file.name != "entries.arrow"
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_an_error_and_a_damaged_cache_is_made_again(
    source: Path, tmp_path: Path, reads: list[object], damage: str
) -> None:
    expected = open_ratings(source, TIMED, cache=tmp_path / "cache")
    shutil.copytree(tmp_path / "cache", tmp_path / "store")
    for folder in ("cache", "store"):
        DAMAGES[damage](tmp_path / folder)

    with pytest.raises(DataError, match=r"store"):
        load_ratings(tmp_path / "store")
    assert_same(open_ratings(source, TIMED, cache=tmp_path / "cache"), expected)
    assert len(reads) == 2
    assert_same(load_ratings(tmp_path / "cache"), expected)


def test_no_flipped_byte_goes_unnoticed(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    save_ratings(read_ratings(source, TIMED), folder)
    for file in folder.iterdir():
        content = file.read_bytes()
        for place in range(0, len(content), 29):  # a few seconds for all of them
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            file.write_bytes(damaged)
            with pytest.raises(DataError, match="is not a store of ratings, or is damaged") as caught:
                load_ratings(folder)
            assert str(folder) in str(caught.value)
        file.write_bytes(content)
    load_ratings(folder)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"rows": pa.array([9, 0], pa.int32())}, "rows are not from 0 to 1"),
        ({"columns": pa.array([-2, 0], pa.int32())}, "columns are not from 0 to 1"),
        ({"rows": pa.array([0, 1], pa.int64())}, "its columns are"),
        ({"rows": pa.array([0, None], pa.int32())}, "missing"),
        ({"values": pa.array([np.nan, 1.0])}, "not finite"),
        ({"values": pa.array(["a", "b"])}, "its columns are"),
        ({"more": pa.array([1, 2])}, "its columns are"),
    ],
)
def test_entries_that_no_ratings_have_are_refused_whatever_their_digest(
    tmp_path: Path, columns: dict[str, pa.Array], words: str
) -> None:
    folder = tmp_path / "store"
    save_ratings(as_ratings((["a", "b"], [7, 9], [1.0, 2.0])), folder)
    whole = {"rows": pa.array([0, 1], pa.int32()), "columns": pa.array([0, 1], pa.int32())}
    batch = pa.record_batch(whole | {"values": pa.array([1.0, 2.0])} | columns)
    with pa.ipc.new_file(str(folder / "entries.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    write_sums(folder)

    with pytest.raises(DataError, match=words):
        load_ratings(folder)


def test_a_store_among_other_files_is_not_replaced(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    open_ratings(source, cache=folder)
    (folder / "thesis.txt").write_text("mine")
    os.utime(source, ns=(0, 1))

    with pytest.raises(DataError, match="holds other files"):
        open_ratings(source, cache=folder)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_a_failed_save_leaves_the_old_store_and_nothing_else(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings = read_ratings(source, TIMED)
    save_ratings(ratings, tmp_path / "store")

    def full_disk(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IdMap, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_ratings(ratings.select(slice(1)), tmp_path / "store")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["ratings.csv", "store"]
    assert_same(load_ratings(tmp_path / "store"), ratings)


def test_a_store_that_is_replaced_while_it_is_read_is_read_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = read_ratings(source, TIMED)
    new = as_ratings((["ann", "bob", "eve"], [7, 8, 9], [1.0, 2.0, 3.0], [4, 5, 6]))
    save_ratings(old, tmp_path / "store")
    checks, check = [], store.check_sums

    def replaced_after_the_first_check(folder: Path, names: tuple[str, ...]) -> None:
        check(folder, names)
        checks.append(folder)
        if len(checks) == 1:
            save_ratings(new, tmp_path / "store")

    monkeypatch.setattr(store, "check_sums", replaced_after_the_first_check)

    assert_same(load_ratings(tmp_path / "store"), new)


def test_a_folder_that_is_no_store_is_neither_loaded_nor_replaced(source: Path, tmp_path: Path) -> None:
    ratings = read_ratings(source)
    with pytest.raises(DataError, match="is not a store of ratings"):
        load_ratings(tmp_path)
    with pytest.raises(DataError, match="not replaced"):
        save_ratings(ratings, tmp_path)
    with pytest.raises(DataError, match="not replaced"):
        open_ratings(source, cache=source)

    assert source.is_file()


def test_a_store_is_no_folder_of_files(source: Path, tmp_path: Path) -> None:
    save_ratings(read_ratings(source), tmp_path / "store")

    with pytest.raises(DataError, match="open_ratings"):
        read_ratings(tmp_path / "store")


def test_ids_of_other_types_cannot_be_saved(tmp_path: Path) -> None:
    ratings = as_ratings(([(1, 2)], ["a"], [1.0]))

    with pytest.raises(DataError, match=r"\(1, 2\).*with str"):
        save_ratings(ratings, tmp_path / "store")

    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_version_is_named(source: Path, tmp_path: Path) -> None:
    save_ratings(read_ratings(source), tmp_path / "store")
    facts = tmp_path / "store" / "store.json"
    facts.write_text(facts.read_text().replace('"version": 2', '"version": 99'))

    with pytest.raises(DataError, match="version 99"):
        load_ratings(tmp_path / "store")


def test_a_cache_that_cannot_be_is_refused_before_anything_is_read(
    source: Path, tmp_path: Path, reads: list[object]
) -> None:
    with pytest.raises(DataError, match="not replaced"):
        open_ratings(source, cache=tmp_path)

    assert reads == []
