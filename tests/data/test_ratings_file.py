"""Reading ratings: every format gives the same ratings, every spoilt file one clear sentence."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse

from dmf_fast.data import DataError, read_pairs, read_ratings

ROWS = [196, 186, 22, 196]
COLUMNS = [242, 302, 377, 51]
VALUES = [3.0, 4.5, 1.0, 2.0]


def lines(separator: str, *, header: str = "", extra: str = "") -> str:
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


@pytest.mark.parametrize("name", TEXTS)
def test_every_kind_of_text_gives_the_same_ratings(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(TEXTS[name].encode())

    table = read_ratings(path)

    assert table.row_ids.to_pylist() == ROWS
    assert table.column_ids.to_pylist() == COLUMNS
    assert table.values.tolist() == VALUES
    assert table.values.dtype == np.float64


def test_a_gzipped_text_reads_like_the_text(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(TEXTS["ratings.csv"].encode()))

    assert read_ratings(path).row_ids.to_pylist() == ROWS


def test_parquet_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    users = pa.array(ROWS, pa.int32())
    pq.write_table(pa.table({"rating": VALUES, "user": users, "note": ["x"] * 4, "item": COLUMNS}), path)

    table = read_ratings(path)

    assert (table.row_ids.to_pylist(), table.column_ids.to_pylist()) == (ROWS, COLUMNS)
    assert table.values.tolist() == VALUES


def test_parquet_ids_may_be_a_dictionary_of_text(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    users = pa.array(["ann", "bob", "ann", "cid"]).dictionary_encode()
    pq.write_table(pa.table({"user": users, "item": COLUMNS, "rating": [1, 2, 3, 4]}), path)

    assert read_ratings(path).row_ids.to_pylist() == ["ann", "bob", "ann", "cid"]


def test_matrix_market_ids_count_from_one_and_stored_zeros_are_ratings(tmp_path: Path) -> None:
    path = tmp_path / "ratings.mtx"
    scipy.io.mmwrite(path, scipy.sparse.coo_array(([3.0, 0.0], ([0, 4], [2, 1])), shape=(5, 3)))

    table = read_ratings(path)

    entries = zip(table.row_ids.to_pylist(), table.column_ids.to_pylist(), table.values, strict=True)
    assert sorted(entries) == [(1, 3, 3.0), (5, 2, 0.0)]


@pytest.mark.parametrize("form", ["coo", "csr", "csc"])
def test_scipy_npz_ids_count_from_zero(tmp_path: Path, form: str) -> None:
    path = tmp_path / "ratings.npz"
    matrix = scipy.sparse.coo_array((VALUES, (ROWS, COLUMNS)), shape=(200, 400))
    scipy.sparse.save_npz(path, matrix.asformat(form))

    table = read_ratings(path)

    entries = zip(table.row_ids.to_pylist(), table.column_ids.to_pylist(), table.values, strict=True)
    assert sorted(entries) == sorted(zip(ROWS, COLUMNS, VALUES, strict=True))


def test_named_columns_are_picked_in_the_given_order(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("stars,film,viewer\n4,brazil,ann\n2,alien,bob\n")

    table = read_ratings(path, columns=["viewer", "film", "stars"])

    assert table.row_ids.to_pylist() == ["ann", "bob"]
    assert table.values.tolist() == [4.0, 2.0]


def test_columns_without_names_are_picked_by_position_from_one(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("9,9,7,ann,4\n9,9,8,bob,2\n")

    table = read_ratings(path, columns=["4", "3", "5"])

    assert table.row_ids.to_pylist() == ["ann", "bob"]
    assert table.column_ids.to_pylist() == [7, 8]


def test_ids_of_text_beside_integers_are_text_and_leading_zeros_stay(tmp_path: Path) -> None:
    path = tmp_path / "books.csv"
    path.write_text("user,isbn,rating\n1,0345417953,5\n2,345417953,4\nx3,080442957X,3\n")

    table = read_ratings(path)

    assert table.row_ids.to_pylist() == ["1", "2", "x3"]
    assert table.column_ids.to_pylist() == ["0345417953", "345417953", "080442957X"]


def test_ids_up_to_the_limits_of_int64_are_kept_exactly(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_text(f"{2**63 - 1},{-(2**63)},1\n0,1,2\n")

    table = read_ratings(path)

    assert table.row_ids.to_pylist() == [2**63 - 1, 0]
    assert table.column_ids.to_pylist() == [-(2**63), 1]


def test_duplicates_are_kept_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("1,2,3\n1,2,4\n")

    assert read_ratings(path, duplicates="keep").values.tolist() == [3.0, 4.0]


def test_pairs_need_no_ratings_and_do_not_look_at_them(tmp_path: Path) -> None:
    bare, rated = tmp_path / "bare.tsv", tmp_path / "rated.csv"
    bare.write_text("1\t2\n3\t4\n")
    rated.write_text("user,item,rating\n1,2,?\n3,4,?\n")

    for path in (bare, rated):
        rows, columns = read_pairs(path)
        assert (rows.to_pylist(), columns.to_pylist()) == ([1, 3], [2, 4])


def test_movielens_100k_has_its_published_counts(movielens_folder: Path) -> None:
    table = read_ratings(movielens_folder / "u.data")

    assert len(table) == 100_000
    assert len(table.row_ids.unique()) == 943
    assert len(table.column_ids.unique()) == 1682
    assert set(table.values.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


GOOD_PARQUET = _parquet(pa.table({"user": ROWS, "item": COLUMNS, "rating": VALUES}))
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
    "huge id": ("a.csv", b"1,2,3\n99999999999999999999,5,3\n", ["line 2", "99999999999999999999", "64 bits"]),
    "huge id beside large ones": (
        "a.csv", b"1,9223372036854775807,3\n1,9223372036854775808,3\n", ["line 2", "64 bits"]
    ),
    "duplicate pair": ("a.csv", b"user,item,rating\n1,2,3\n4,5,6\n1,2,5\n", ["line 4", "(1, 2)", "line 2"]),
    "unknown header": ("a.csv", b"viewer,film,stars\na,b,3\n", ["--columns", "viewer, film, stars"]),
    "many columns without names": ("a.csv", b"1,2,3,4,5\n1,3,3,4,5\n", ["5 columns", "--columns"]),
    "binary": ("a.csv", bytes(range(256)) * 4, ["binary"]),
    "not UTF-8": ("a.csv", b"user,item,rating\n1,2,3\nJos\xe9,2,4\n", ["line 3", "UTF-8"]),
    "an image": ("a.dat", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ["binary"]),
    "unclosed quote": ("a.csv", b'1,"2,3\n4,5,6\n', ["a.csv"]),
    "truncated gzip": ("a.csv.gz", gzip.compress(TEXTS["u.data"].encode() * 50)[:-40], ["a.csv.gz"]),
    "text called gzip": ("a.csv.gz", b"1,2,3\n", ["cannot be read"]),
    "truncated Parquet": ("a.parquet", GOOD_PARQUET[:-20], ["Parquet"]),
    "text called Parquet": ("a.parquet", b"1,2,3\n", ["parquet"]),
    "Parquet without the columns": ("a.parquet", _parquet(pa.table({"user": [1]})), ["1 column"]),
    "Parquet of floating ids": (
        "a.parquet", _parquet(pa.table({"user": [1.5], "item": [1], "rating": [1.0]})), ["'user'", "integers"]
    ),
    "Parquet of huge ids": (
        "a.parquet",
        _parquet(pa.table({"user": pa.array([2**63], pa.uint64()), "item": [1], "rating": [1.0]})),
        ["'user'", "64 bits"],
    ),
    "Parquet of words": (
        "a.parquet", _parquet(pa.table({"user": [1], "item": [1], "rating": ["x"]})), ["'rating'", "numbers"]
    ),
    "Parquet with a gap": (
        "a.parquet", _parquet(pa.table({"user": [1, 2], "item": [1, 1], "rating": [1.0, None]})), ["row 2"]
    ),
    "empty Parquet": (
        "a.parquet",
        _parquet(pa.table({n: pa.array([], pa.int64()) for n in ("user", "item", "rating")})),
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
def test_a_spoilt_file_ends_in_one_sentence_that_names_it(tmp_path: Path, case: str) -> None:
    name, content, words = BAD_FILES[case]
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError) as caught:
        read_ratings(path)

    message = str(caught.value)
    assert str(path) in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("reader", [read_ratings, read_pairs])
def test_a_missing_file_and_a_directory_are_named(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    with pytest.raises(DataError, match="does not exist"):
        reader(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="directory"):
        reader(tmp_path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["user", "item"], "2 columns picked where 3"),
        (["user", "item", "stars"], "no column 'stars'"),
        (["user", "user", "rating"], "same column twice"),
        (["user", "item", "7"], "no column '7'"),
    ],
)
def test_columns_that_do_not_fit_the_file_are_refused(tmp_path: Path, columns: list[str], words: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating\n1,2,3\n")

    with pytest.raises(DataError, match=words):
        read_ratings(path, columns=columns)


def test_a_dense_npz_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dense.npz"
    np.savez(path, ratings=np.ones((2, 2)))

    with pytest.raises(DataError, match="save_npz"):
        read_ratings(path)


def test_a_million_lines_are_read_without_a_loop_over_them(tmp_path: Path) -> None:
    rows, columns = np.divmod(np.arange(1_000_000), 1000)
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"user": rows, "item": columns, "rating": (rows + columns) % 5 + 0.5}), path)

    table = read_ratings(path)

    assert len(table) == 1_000_000
    assert table.values[-1] == (999 + 999) % 5 + 0.5
