"""Every corrupted file ends in one clear sentence, or in bad rows that are counted."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dmf_fast.data import DataError, ReadOptions, read_pairs, read_ratings
from tests.data.written_ratings import COLUMNS, ROWS, TEXTS, VALUES, parquet

GOOD_PARQUET = parquet(pa.table({"user": ROWS, "item": COLUMNS, "rating": VALUES}))
BAD_FILES: dict[str, tuple[str, bytes, list[str]]] = {
    "empty": ("a.csv", b"", ["empty"]),
    "only blank lines": ("a.csv", b"\n\n\n", ["empty"]),
    "only a header": ("a.csv", b"user,item,rating\n", ["empty", "header"]),
    "one column": ("a.csv", b"1\n2\n3\n", ["one column"]),
    "two columns": ("a.csv", b"1,2\n3,4\n", ["2 columns", "3 were expected"]),
    "truncated line": ("a.csv", b"1,2,3\n\n4,5\n", ["line 3", "3 columns", "2 found"]),
    "truncated line below a header": ("a.csv", b"user,item,rating\n1,2,3\n4", ["line 3", "1 found"]),
    "truncated dat": ("a.dat", b"1::2::3::9\n4::5::3::9\n6::7", ["line 3", "4 columns", "2 found"]),
    "line too long": ("a.csv", b"1,2,3\n4,5,6,7\n", ["line 2", "4 found"]),
    "value is a word": ("a.csv", b"1,2,3\n\n4,5,good\n", ["line 3", "'good'", "number"]),
    "value is missing": ("a.csv", b"1,2,3\n4,5,\n", ["line 2", "value", "missing"]),
    "row id is missing": ("a.csv", b"1,2,3\n,5,6\n", ["line 2", "row", "missing"]),
    "column id is missing": ("a.csv", b"a,2,3\nb,,6\n", ["line 2", "column", "missing"]),
    "NaN": ("a.csv", b"user,item,rating\n1,2,3\n4,5,nan\n", ["line 3", "nan", "finite"]),
    "infinite": ("a.csv", b"1,2,3\n4,5,-inf\n", ["line 2", "-inf", "finite"]),
    "too large a number": ("a.csv", b"1,2,3\n4,5,1e999\n", ["line 2", "finite"]),
    "duplicate pair": ("a.csv", b"user,item,rating\n1,2,3\n4,5,6\n1,2,5\n", ["line 4", "(1, 2)", "line 2"]),
    "duplicate pair of a long id": (
        "a.csv", b"user,item,rating\n" + b"1,%s,3\n" % (b"a" * 9999) * 2, [f"(1, {'a' * 80}…)", "line 2"]
    ),
    "unknown header": ("a.csv", b"viewer,film,stars\na,b,3\n", ["--columns", "viewer, film, stars"]),
    "many columns without names": ("a.csv", b"1,2,3,4,5\n1,3,3,4,5\n", ["5 columns", "--columns"]),
    "binary": ("a.csv", bytes(range(256)) * 4, ["binary"]),
    "not UTF-8": ("a.csv", b"user,item,rating\n1,2,3\nJos\xe9,2,4\n", ["line 3", "row", "--encoding"]),
    "UTF-16 without a mark": ("a.csv", "1,2,3\n4,5,6\n".encode("utf-16-le"), ["binary", "--encoding"]),
    "a NUL behind many lines": ("a.csv", b"1,2,3\n" * 20_000 + b"1,\0,3\n", ["NUL"]),
    "a first line without end": ("a.csv", b"1," * 40_000 + b"\n1,2,3\n", ["first line of more than 64 kB"]),
    "twenty thousand columns": ("a.csv", b"," * 20_000 + b"\n" + b"," * 20_000, ["20001 columns", "matrix"]),
    "decimal commas": ("a.csv", b"1;2;4,5\n3;4;2,5\n", ["line 1", "'4,5'", "decimal point"]),
    "cut by two separators": ("a.csv", b"1;2,3;4,5\n2;3,4;5,6\n", ["';'", "','", "--separator"]),
    "one name twice": ("a.csv", b"a,b,b\n1,2,3\n", ["no column is recognized"]),
    "pairs of Netflix": ("qualifying.txt", b"1:\n10,2005-12-19\n", ["without ratings", "predict"]),
    "a damaged heading of Netflix": ("mv.txt", b"1:\n5,3,2004-1-1\n2x:\n6,3,2004-1-1\n", ["line 3", "'2x:'"]),
    "an image": ("a.dat", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ["binary"]),
    "unclosed quote": ("a.csv", b'1,"2,3\n4,5,6\n', ["a.csv"]),
    "truncated gzip": ("a.csv.gz", gzip.compress(TEXTS["u.data"].encode() * 50)[:-40], ["a.csv.gz"]),
    "text called gzip": ("a.csv.gz", b"1,2,3\n", ["cannot be read"]),
    "truncated Parquet": ("a.parquet", GOOD_PARQUET[:-20], ["Parquet"]),
    "text called Parquet": ("a.parquet", b"1,2,3\n", ["parquet"]),
    "Parquet without the columns": ("a.parquet", parquet(pa.table({"user": [1]})), ["1 column"]),
    "Parquet of words": (
        "a.parquet", parquet(pa.table({"user": [1], "item": [1], "rating": ["x"]})), ["'rating'", "numbers"]
    ),
    "Parquet with a gap": (
        "a.parquet", parquet(pa.table({"user": [1, 2], "item": [1, 1], "rating": [1.0, None]})), ["row 2"]
    ),
    "empty Parquet": (
        "a.parquet",
        parquet(pa.table({n: pa.array([], pa.int64()) for n in ("user", "item", "rating")})),
        ["no entries"],
    ),
    "truncated Matrix Market": (
        "a.mtx", b"%%MatrixMarket matrix coordinate real general\n3 3 3\n1 1 2.0\n2 2\n", ["Matrix Market"]
    ),
    "Matrix Market index outside": (
        "a.mtx", b"%%MatrixMarket matrix coordinate real general\n3 3 1\n4 1 2.0\n", ["Matrix Market"]
    ),
    "Matrix Market pattern": (
        "a.mtx", b"%%MatrixMarket matrix coordinate pattern general\n3 3 1\n1 1\n", ["pattern", "values"]
    ),
    "Matrix Market NaN": (
        "a.mtx", b"%%MatrixMarket matrix coordinate real general\n3 3 1\n1 1 nan\n", ["entry 1", "finite"]
    ),
    "Matrix Market of no entries": (
        "a.mtx", b"%%MatrixMarket matrix coordinate real general\n3 3 0\n", ["no entries"]
    ),
    "Matrix Market duplicate": (
        "a.mtx", b"%%MatrixMarket matrix coordinate real general\n3 3 2\n1 1 2.0\n1 1 3.0\n", ["entry 2"]
    ),
    "text called npz": ("a.npz", b"1,2,3\n", [".npz"]),
    "truncated npz": ("a.npz", b"PK\x03\x04" + b"x" * 40, ["save_npz"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_damaged_file_ends_in_one_sentence_that_names_it(tmp_path: Path, case: str) -> None:
    name, content, words = BAD_FILES[case]
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError) as caught:
        read_ratings(path, ReadOptions(strict=True)).observations()

    message = str(caught.value)
    assert str(path) in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("reader", [read_ratings, read_pairs])
def test_a_missing_file_and_an_empty_directory_are_named(
    tmp_path: Path, reader: Callable[[Path], object]
) -> None:
    with pytest.raises(DataError, match="does not exist"):
        reader(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="directory"):
        reader(tmp_path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["user", "item"], "2 columns picked, but 3"),
        (["user", "item", "stars"], "no column 'stars'"),
        (["user", "user", "rating"], "same column twice"),
        (["user", "item", "7"], "no column '7'"),
    ],
)
def test_columns_that_do_not_fit_the_file_are_refused(tmp_path: Path, columns: list[str], words: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating\n1,2,3\n")

    with pytest.raises(DataError, match=words):
        read_ratings(path, ReadOptions(columns=columns))


def test_a_dense_npz_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dense.npz"
    np.savez(path, ratings=np.ones((2, 2)))

    with pytest.raises(DataError, match="save_npz"):
        read_ratings(path)
