"""Times of any form become seconds."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmf_fast.data import DataError, ReadOptions, read_ratings

TIMES = ReadOptions(times=True)
SECONDS = 1125964800


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"{SECONDS}", f"{SECONDS + 1}"),
        (f"{SECONDS}.0", f"{SECONDS + 1}.75"),
        ("2005-09-06 00:00:00", "2005-09-06 00:00:01"),
        ("2005-09-06T00:00:00.250", "2005-09-06T00:00:01"),
        ("2005-09-06T00:00:00Z", "2005-09-06T00:00:01Z"),
        ("2005-09-06T02:00:00+02:00", "2005-09-05T23:00:01-01:00"),
        (f"{SECONDS}", "2005-09-06 00:00:01"),
        ("2005-09-06", f"{SECONDS + 1}.5"),
        ("2005-09-06T00:00:00", "2005-09-06T01:00:01+0100"),
    ],
)
def test_every_way_to_write_a_time_gives_seconds(tmp_path: Path, first: str, second: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"rating_date,user,item,rating\n{first},1,1,3\n{second},1,2,3\n")

    times = read_ratings(path, TIMES).times

    assert times is not None
    assert times.tolist() == [SECONDS, SECONDS + 1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([SECONDS], pa.int32()),
        pa.array([datetime.date(2005, 9, 6)]),
        pa.array([datetime.datetime(2005, 9, 6)], pa.timestamp("ns")),
        pa.array(["2005-09-06"]),
    ],
)
def test_times_of_parquet_have_any_type_of_a_time(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "ratings.parquet"
    pq.write_table(pa.table({"user": [1], "item": [1], "rating": [1], "Date": column}), path)

    times = read_ratings(path, TIMES).times

    assert times is not None
    assert times.tolist() == [SECONDS]


def test_a_fourth_column_that_is_named_is_the_time(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("1,1,3,0,77\n")

    times = read_ratings(path, ReadOptions(columns=["1", "2", "3", "5"])).times

    assert times is not None
    assert times.tolist() == [77]


def test_missing_or_invalid_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating\n1,1,3\n")
    with pytest.raises(DataError, match=r"need a fourth|recognized as time"):
        read_ratings(path, TIMES)
    path.write_text("user,item,rating,time\n0,0\n1,1,3,5\n1,2,3,noon\n1,3,3,\n1,4,3,6\n1,5,3,7\n")

    ratings = read_ratings(path, TIMES)

    assert ratings.values.tolist() == [3, 3, 3]
    assert "line 4: the time is 'noon'" in ratings.bad_rows.examples[1]
    assert "line 5: the time is missing" in ratings.bad_rows.examples[2]
    assert read_ratings(path).times is None


@pytest.mark.parametrize(
    ("cell", "second"),
    [
        ("-1", -1),
        ("-0.5", -1),
        ("1969-12-31 23:59:59.5", -1),
        ("1.5e9", 1_500_000_000),
        ("0001-01-01", -62_135_596_800),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        ("1e30", None),
        ("nan", None),
        ("inf", None),
        ("9" * 30, None),
        ("2005-13-01", None),
        ("2005-02-30 00:00:00", None),
        ("06.09.2005", None),
        ("noon", None),
        (" ", None),
    ],
)
@pytest.mark.parametrize("others", [f"{SECONDS}", f"{SECONDS}.0", "2005-09-06", "2005-09-06T00:00:00Z"])
def test_a_time_among_others_is_read_or_its_row_is_bad(
    tmp_path: Path, cell: str, second: int | None, others: str
) -> None:
    text, typed = tmp_path / "ratings.csv", tmp_path / "ratings.parquet"
    cells = [others, cell, others]
    text.write_text("".join(f"{k},1,3,{cell}\n" for k, cell in enumerate(cells)))
    pq.write_table(pa.table({"user": [0, 1, 2], "item": [1] * 3, "rating": [3] * 3, "time": cells}), typed)

    for path in (text, typed):
        ratings = read_ratings(path, TIMES)
        assert ratings.times is not None
        assert ratings.times.tolist() == [SECONDS] + ([] if second is None else [second]) + [SECONDS]
        assert ratings.bad_rows.count == (second is None)


def test_times_in_seconds_and_in_milliseconds_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"1,1,3,{SECONDS}\n1,2,3,{SECONDS}000\n")

    with pytest.warns(UserWarning, match=f"milliseconds, such as {SECONDS}000"):
        read_ratings(path, TIMES)
