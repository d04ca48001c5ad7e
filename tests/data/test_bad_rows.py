"""Rows that cannot be used are skipped, counted and described; strict reading stops at the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmf_fast.data import BadRows, DataError, ReadOptions, bad_rows, read_ratings, text_blocks
from tests.data.written_ratings import column_ids, row_ids

MIXED = """user,item,rating,timestamp
1,2,3,100
1,3,good,100
,4,3,100
1,5

1, ,3,100
1,6,inf,100
user,item,rating,timestamp
1,7,4,100
1,8,5,100
1,9,5,100
2,1,5,100
2,2,5,100
2,3,5,100
"""


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.csv"
    path.write_text(MIXED)
    return path


def test_bad_rows_are_skipped_and_described_in_the_order_of_their_lines(mixed: Path) -> None:
    ratings = read_ratings(mixed)

    assert row_ids(ratings) == [1, 1, 1, 1, 2, 2, 2]
    assert column_ids(ratings) == [2, 7, 8, 9, 1, 2, 3]
    assert ratings.bad_rows.count == 6
    expected = [
        ("line 3", "'good'"),
        ("line 4", "row (user) is missing"),
        ("line 5", "2 found"),
        ("line 7", "column (item) is missing"),
        ("line 8", "inf"),
        ("line 9", "'rating'"),
    ]
    for example, words in zip(ratings.bad_rows.examples, expected, strict=True):
        assert example.startswith(f"{mixed}, ")
        assert all(word in example for word in words), example


def test_strict_reading_stops_at_the_first_bad_row(mixed: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: .*'good'"):
        read_ratings(mixed, ReadOptions(strict=True))


def test_the_place_of_an_entry_behind_bad_rows_is_its_line(mixed: Path) -> None:
    ratings = read_ratings(mixed)

    assert [ratings.place(entry) for entry in (0, 1, 6)] == [f"{mixed}, line {n}" for n in (2, 10, 15)]
    assert ratings.select(ratings.values == 4).place(0) == f"{mixed}, line 10"


@pytest.mark.parametrize("block_bytes", [1, 20, 61])
def test_bad_rows_and_places_do_not_depend_on_the_size_of_blocks(
    mixed: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_ratings(mixed)
    places = [whole.place(entry) for entry in range(len(whole))]
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block_bytes)

    in_blocks = read_ratings(mixed)

    assert in_blocks.bad_rows == whole.bad_rows
    assert [in_blocks.place(entry) for entry in range(len(whole))] == places


def test_only_the_first_ten_bad_rows_are_described(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("".join(f"{k},{k},1\n{k},{k},x\n" for k in range(1, 51)))

    bad_rows = read_ratings(path).bad_rows

    assert bad_rows.count == 50
    assert [example.partition(":")[0] for example in bad_rows.examples] == [
        f"{path}, line {n}" for n in range(2, 22, 2)
    ]
    assert str(bad_rows).startswith("50 bad rows were skipped, the first 10 of them:")


@pytest.mark.parametrize("good_lines", [3, 2000])
def test_a_file_that_begins_mostly_bad_is_an_error(tmp_path: Path, good_lines: int) -> None:
    path = tmp_path / "titles.csv"
    path.write_text("1,2,3\n" + "1,2,x\n" * 600 + "".join(f"{k},2,1\n" for k in range(good_lines)))

    with pytest.raises(DataError, match=r"line 2: .*'x'.* 600 of the first \d+ rows"):
        read_ratings(path)


def test_a_file_whose_bad_rows_come_late_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("".join(f"{k},2,1\n" for k in range(1000)) + "1,3,x\n" * 3000)

    assert read_ratings(path).bad_rows.count == 3000


def test_a_file_that_is_mostly_bad_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_rows, "_MOST", 1500)
    path = tmp_path / "ratings.csv"
    path.write_text("1,2,1\n" * 1000 + "1,3,x\n" * 3000)

    with pytest.raises(DataError, match=r"line 1001: .*'x'.* so are 3000 of the first 4000 rows"):
        read_ratings(path)


def test_an_unclosed_quotation_mark_costs_its_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("1,a,3\n" * 30 + '2,"b,3\n' + '3,"c",4\n4,d,4\n')

    ratings = read_ratings(path)

    assert row_ids(ratings)[-2:] == [3, 4]
    assert ratings.bad_rows.count == 1
    assert "line 31: a quotation mark" in ratings.bad_rows.examples[0]


def test_a_value_that_float32_cannot_hold_is_bad_and_float64_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("1,1,1e300\n1,2,-1e300\n1,3,2\n1,4,3\n1,5,3\n")

    ratings = read_ratings(path)

    assert ratings.values.tolist() == [2, 3, 3]
    assert "1e+300, which float32 cannot hold" in ratings.bad_rows.examples[0]
    assert read_ratings(path, ReadOptions(dtype="float64")).values[1] == -1e300


def test_rows_of_parquet_are_counted_across_its_batches(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    values = np.ones(3_000)
    values[[10, 2_500]] = np.nan
    table = pa.table({"user": np.arange(3_000), "item": np.zeros(3_000, int), "rating": values})
    pq.write_table(table, path, row_group_size=1_000)

    ratings = read_ratings(path)

    assert len(ratings) == 2_998
    assert [example.partition(":")[0] for example in ratings.bad_rows.examples] == [
        f"{path}, row 11",
        f"{path}, row 2501",
    ]
    assert ratings.place(2_997) == f"{path}, row 3000"


def test_no_bad_rows_are_false() -> None:
    assert not BadRows()
    assert str(BadRows()) == "No bad rows."


@pytest.mark.parametrize("lines_around", [0, 3])
@pytest.mark.parametrize("length", [200_000, 3_000_000])
def test_a_line_that_is_bad_and_long_costs_itself_only(
    tmp_path: Path, lines_around: int, length: int
) -> None:
    path, good = tmp_path / "ratings.csv", "1,2,3\n" * (1 + lines_around)
    path.write_text(good + "1," + "2" * length + "\n" + good * lines_around)

    ratings = read_ratings(path)

    assert len(ratings) == good.count("\n") * (1 + lines_around)
    assert ratings.bad_rows.count == 1


def test_a_bad_line_in_another_encoding_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(b"1,2,3\n1,\xff\n1,2,\xe93\n1,4,3\n1,5,3\n")

    ratings = read_ratings(path)

    assert (len(ratings), ratings.bad_rows.count) == (3, 2)


def test_a_file_of_one_line_that_ends_in_a_carriage_return_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(b"1,2,3\r")

    assert len(read_ratings(path)) == 1
