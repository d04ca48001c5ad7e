"""The text of the Netflix Prize, one movie a file or many."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmf_fast.data import DataError, ReadOptions, read_pairs, read_ratings, text_blocks
from tests.data.written_ratings import column_ids, row_ids

COMBINED = "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n2:\n3:\n1488844,4,2004-02-29\n10,1,1999-12-31\n"
DAYS = [1125964800, 1115942400, 1078012800, 946598400]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("block_bytes", [1 << 24, 30, 1])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_movies_customers_ratings_and_days_are_read(
    tmp_path: Path, end: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block_bytes)
    path = write(tmp_path / "combined_data_1.txt", COMBINED.replace("\n", end))

    ratings = read_ratings(path, ReadOptions(times=True, strict=True))

    assert row_ids(ratings) == [1488844, 822109, 1488844, 10]
    assert column_ids(ratings) == [1, 1, 3, 3]
    assert ratings.values.tolist() == [3, 5, 4, 1]
    assert ratings.times is not None
    assert ratings.times.tolist() == DAYS


def test_the_files_of_a_folder_are_read_in_order_among_others(tmp_path: Path) -> None:
    folder = tmp_path / "training_set"
    folder.mkdir()
    write(folder / "mv_0000002.txt", "2:\n7,2,2004-01-01\n")
    write(folder / "mv_0000001.txt", "1:\n7,1,2004-01-01\n8,5,2004-01-01\n")
    write(tmp_path / "movie_titles.txt", "1,2003,Dinosaur Planet\n")

    ratings = read_ratings(tmp_path)

    assert (row_ids(ratings), column_ids(ratings)) == ([7, 8, 7], [1, 1, 2])


def test_bad_rows_have_the_number_of_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "mv_1.txt", COMBINED + "11,x,2004-01-01\n12,1\n\n13,5,2004-01-01\n")

    ratings = read_ratings(path)

    assert row_ids(ratings)[-1] == 13
    assert [example.partition(":")[0] for example in ratings.bad_rows.examples] == [
        f"{path}, line 8",
        f"{path}, line 9",
    ]
    assert ratings.place(4) == f"{path}, line 11"


def test_a_bad_day_counts_where_times_are_wanted(tmp_path: Path) -> None:
    path = write(tmp_path / "mv_1.txt", COMBINED + "11,4,2004-13-45\n")

    assert len(read_ratings(path)) == 5
    with pytest.raises(DataError, match="line 8: the time is '2004-13-45'"):
        read_ratings(path, ReadOptions(times=True, strict=True))


@pytest.mark.parametrize("rest", ["", ",2005-12-19", ",3,2005-12-19"], ids=["probe", "qualifying", "train"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_pairs_of_netflix_need_no_ratings(tmp_path: Path, rest: str, end: str) -> None:
    lines = ["1:", f"30878{rest}", f"2647871{rest}", "10: ", "", f"30878{rest}"]
    path = write(tmp_path / "probe.txt", "\ufeff" + "".join(line + end for line in lines))

    pairs = read_pairs(path, ReadOptions(strict=True))

    assert row_ids(pairs) == [30878, 2647871, 30878]
    assert column_ids(pairs) == [1, 1, 10]
    assert pairs.place(2) == f"{path}, line 6"
