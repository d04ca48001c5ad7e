"""Every format gives the same ratings."""

from __future__ import annotations

import bz2
import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse

from dmf_fast.data import ReadOptions, read_pairs, read_ratings, text_blocks
from tests.data.written_ratings import COLUMNS, ROWS, TEXTS, VALUES, column_ids, parquet, row_ids

GOOD_PARQUET = parquet(pa.table({"user": ROWS, "item": COLUMNS, "rating": VALUES}))


@pytest.mark.parametrize("name", TEXTS)
def test_every_kind_of_text_gives_the_same_ratings(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(TEXTS[name].encode())

    ratings = read_ratings(path)

    assert row_ids(ratings) == ROWS
    assert column_ids(ratings) == COLUMNS
    assert ratings.values.tolist() == VALUES
    assert ratings.values.dtype == np.float32


def zstandard(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("zst", zstandard)]
)
@pytest.mark.parametrize("name", ["ratings.csv", "ratings.dat"])
def test_a_compressed_text_reads_like_the_text(
    tmp_path: Path, name: str, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"{name}.{ending}"
    path.write_bytes(compress(TEXTS[name].encode()))

    assert row_ids(read_ratings(path)) == ROWS


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.mtx", "ratings.parquet", "ratings.npz"])
def test_a_member_of_a_zip_archive_reads_like_the_file(tmp_path: Path, name: str) -> None:
    matrix = scipy.sparse.coo_array(([3.0, 4.5], ([0, 4], [2, 1])), shape=(5, 3))
    scipy.io.mmwrite(tmp_path / "ratings.mtx", matrix)
    scipy.sparse.save_npz(tmp_path / "ratings.npz", matrix)
    (tmp_path / "ratings.csv").write_text(TEXTS["ratings.csv"])
    (tmp_path / "ratings.parquet").write_bytes(GOOD_PARQUET)
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / name, f"deep/{name}")

    plain, zipped = read_ratings(tmp_path / name), read_ratings(tmp_path / "all.zip")

    assert row_ids(zipped) == row_ids(plain)
    assert zipped.values.tolist() == plain.values.tolist()


def test_parquet_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    users = pa.array(ROWS, pa.int32())
    pq.write_table(pa.table({"rating": VALUES, "user": users, "note": ["x"] * 4, "item": COLUMNS}), path)

    ratings = read_ratings(path)

    assert (row_ids(ratings), column_ids(ratings)) == (ROWS, COLUMNS)
    assert ratings.values.tolist() == VALUES


def test_parquet_ids_may_be_a_dictionary_of_text(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    users = pa.array(["ann", "bob", "ann", "cid"]).dictionary_encode()
    pq.write_table(pa.table({"user": users, "item": COLUMNS, "rating": [1, 2, 3, 4]}), path)

    assert row_ids(read_ratings(path)) == ["ann", "bob", "ann", "cid"]


def test_matrix_market_ids_count_from_one_and_stored_zeros_are_ratings(tmp_path: Path) -> None:
    path = tmp_path / "ratings.mtx"
    scipy.io.mmwrite(path, scipy.sparse.coo_array(([3.0, 0.0], ([0, 4], [2, 1])), shape=(5, 3)))

    ratings = read_ratings(path)

    entries = zip(row_ids(ratings), column_ids(ratings), ratings.values, strict=True)
    assert sorted(entries) == [(1, 3, 3.0), (5, 2, 0.0)]


@pytest.mark.parametrize("form", ["coo", "csr", "csc"])
def test_scipy_npz_ids_count_from_zero(tmp_path: Path, form: str) -> None:
    path = tmp_path / "ratings.npz"
    matrix = scipy.sparse.coo_array((VALUES, (ROWS, COLUMNS)), shape=(200, 400))
    scipy.sparse.save_npz(path, matrix.asformat(form))

    ratings = read_ratings(path)

    entries = zip(row_ids(ratings), column_ids(ratings), ratings.values, strict=True)
    assert sorted(entries) == sorted(zip(ROWS, COLUMNS, VALUES, strict=True))


def test_named_columns_are_picked_in_the_given_order(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("stars,film,viewer\n4,brazil,ann\n2,alien,bob\n")

    ratings = read_ratings(path, ReadOptions(columns=["viewer", "film", "stars"]))

    assert row_ids(ratings) == ["ann", "bob"]
    assert ratings.values.tolist() == [4.0, 2.0]


def test_columns_without_names_are_picked_by_position_from_one(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("9,9,7,ann,4\n9,9,8,bob,2\n")

    ratings = read_ratings(path, ReadOptions(columns=["4", "3", "5"]))

    assert row_ids(ratings) == ["ann", "bob"]
    assert column_ids(ratings) == [7, 8]


def test_ids_mixed_with_text_are_text_and_keep_leading_zeros(tmp_path: Path) -> None:
    path = tmp_path / "books.csv"
    path.write_text("user,isbn,rating\n1,0345417953,5\n2,345417953,4\nx3,080442957X,3\n")

    ratings = read_ratings(path)

    assert row_ids(ratings) == ["1", "2", "x3"]
    assert column_ids(ratings) == ["0345417953", "345417953", "080442957X"]


def test_ids_up_to_the_limits_of_int64_are_kept_exactly(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_text(f"{2**63 - 1},{-(2**63)},1\n0,1,2\n")

    ratings = read_ratings(path)

    assert row_ids(ratings) == [2**63 - 1, 0]
    assert column_ids(ratings) == [-(2**63), 1]


def test_duplicates_are_kept_until_observations_are_made(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("1,2,3\n1,2,4\n")

    ratings = read_ratings(path)

    assert ratings.values.tolist() == [3.0, 4.0]
    assert ratings.observations(duplicates="last").values.tolist() == [4.0]


def test_pairs_need_no_ratings_and_do_not_look_at_them(tmp_path: Path) -> None:
    bare, rated = tmp_path / "bare.tsv", tmp_path / "rated.csv"
    bare.write_text("1\t2\n3\t4\n")
    rated.write_text("user,item,rating\n1,2,?\n3,4,?\n")

    for path in (bare, rated):
        pairs = read_pairs(path)
        assert (row_ids(pairs), column_ids(pairs)) == ([1, 3], [2, 4])


def test_movielens_100k_has_its_published_counts(movielens_folder: Path) -> None:
    ratings = read_ratings(movielens_folder / "u.data", ReadOptions(times=True))

    assert len(ratings) == 100_000
    assert ratings.shape == (943, 1682)
    assert set(ratings.values.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert ratings.times is not None
    assert ratings.times[0] == 881250949


@pytest.mark.parametrize("letter", ["\u2028", "\x85", "\x0b", "\x1c"])
@pytest.mark.parametrize("header", ["", "user,item,rating\n"])
def test_only_line_feeds_end_lines_whatever_ids_hold(tmp_path: Path, letter: str, header: str) -> None:
    path = tmp_path / "letters.csv"
    path.write_text(f"{header}zo{letter}e,b,3\nann,c,4\n", newline="\n")

    ratings = read_ratings(path)

    assert row_ids(ratings) == [f"zo{letter}e", "ann"]
    assert not ratings.bad_rows


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 1 << 24])
def test_lines_may_end_in_carriage_returns_alone(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block_bytes)
    path = tmp_path / "old.csv"
    path.write_bytes(b"user,item,rating\ra,b,3\rc,d,4\r\ne,f,5\n\rg,h,6\r")

    ratings = read_ratings(path, ReadOptions(strict=True))

    assert row_ids(ratings) == list("aceg")
    assert ratings.values.tolist() == [3, 4, 5, 6]
