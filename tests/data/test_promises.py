"""Failures of other readers that must not occur here, and edge cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast.data import ReadOptions, as_ratings, read_ratings, text_blocks
from dmf_fast.data.growing_array import GrowingArray
from tests.data.written_ratings import column_ids, row_ids


def write(folder: Path, text: str) -> Path:
    path = folder / "ratings.csv"
    path.write_text(text)
    return path


def test_no_phantom_rows_come_from_ids_with_gaps(tmp_path: Path) -> None:
    ratings = read_ratings(write(tmp_path, "5,1000000,1\n9000000000,7,2\n5,7,3\n"))

    assert ratings.shape == (2, 2)
    assert ratings.observations().shape == (2, 2)
    assert set(ratings.rows.tolist()) == {0, 1}


def test_zero_valued_ratings_are_ratings(tmp_path: Path) -> None:
    ratings = read_ratings(write(tmp_path, "1,1,0\n1,2,0.0\n2,1,-0\n"))

    assert ratings.values.tolist() == [0, 0, 0]
    assert len(ratings.observations()) == 3


def test_pairs_of_a_matrix_beyond_int32_cells_are_not_confused() -> None:
    # 70,000 × 70,000 cells: the pairs (0, 65536), (1, 0) and others agree modulo 2^32.
    rows, columns = np.arange(70_000), (np.arange(70_000) * 65_536) % 70_000
    ratings = as_ratings((rows, columns, np.ones(70_000)))

    ratings.refuse_duplicates()

    assert len(ratings.observations()) == 70_000


@pytest.mark.parametrize(
    "text", ["1,1,5\n", "1,1,3\n1,2,3\n", "1,1,3\n2,1,3\n"], ids=["one entry", "one user", "one item"]
)
def test_one_user_one_item_and_constant_ratings_are_read(tmp_path: Path, text: str) -> None:
    ratings = read_ratings(write(tmp_path, text))

    assert len(ratings.observations()) == text.count("\n")


def test_one_user_may_have_rated_nearly_everything(tmp_path: Path) -> None:
    lines = [f"whale,{item},1" for item in range(5_000)] + [f"u{k},0,2" for k in range(1, 6)]

    ratings = read_ratings(write(tmp_path, "\n".join(lines)))

    assert ratings.shape == (6, 5_000)
    assert np.bincount(ratings.rows).max() == 5_000


def test_ids_with_unicode_and_separators_are_kept_and_trimmed(tmp_path: Path) -> None:
    text = 'user,item,rating\nJosé Ω,"The Good, the Bad",5\n"李 雷", spaced ,1\n"say ""hi""",😀,2\n'

    ratings = read_ratings(write(tmp_path, text))

    assert row_ids(ratings) == ["José Ω", "李 雷", 'say "hi"']
    assert column_ids(ratings) == ["The Good, the Bad", "spaced", "😀"]


def test_ratings_of_any_sign_and_size_are_kept(tmp_path: Path) -> None:
    ratings = read_ratings(write(tmp_path, "1,1,-1e30\n1,2,1e-30\n1,3,-7.25\n2,1,+.5\n2,2,3.\n"))

    assert ratings.values.tolist() == np.float32([-1e30, 1e-30, -7.25, 0.5, 3]).tolist()


@pytest.mark.parametrize("late", ["007,1,1", '"007",1,1', "0x1F,1,1", "x7,1,1", "+7,1,1"])
def test_ids_that_turn_out_to_be_text_late_are_all_text(tmp_path: Path, late: str) -> None:
    path = write(tmp_path, "".join(f"{k},{k},1\n" for k in range(20_000)) + late + "\n31,31,2\n7,7,1\n")

    ratings = read_ratings(path)

    assert row_ids(ratings)[-3:] == [late.split(",")[0].strip('"'), "31", "7"]
    assert column_ids(ratings)[-3:] == [1, 31, 7]
    assert len(ratings.row_ids) == 20_001


@given(
    st.lists(st.tuples(st.integers(-99, 99), st.sampled_from(["a", "b", "ü"])), min_size=2, max_size=20),
    st.integers(1, 40),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_the_size_of_blocks_changes_nothing(
    tmp_path: Path, entries: list[tuple[int, str]], block_bytes: int, end: str
) -> None:
    path = write(tmp_path, "user,item,rating" + end + "".join(f"{u},{i},{u}.5{end}" for u, i in entries))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_blocks, "BLOCK_BYTES", block_bytes)
        ratings = read_ratings(path, ReadOptions(strict=True))

    assert list(zip(row_ids(ratings), column_ids(ratings), strict=True)) == entries
    assert ratings.values.tolist() == [float(f"{user}.5") for user, _ in entries]


@given(st.lists(st.integers(0, 5), max_size=6))
def test_a_growing_array_holds_what_was_appended(lengths: list[int]) -> None:
    parts = [np.arange(k, k + length) for k, length in enumerate(lengths)]
    array: GrowingArray[np.int32] = GrowingArray(np.int32)
    array._piece_length = 3
    for part in parts:
        array.append(part)

    assert array.finish().tolist() == [number for part in parts for number in part.tolist()]
