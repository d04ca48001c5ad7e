"""Row blocks hold what reading the same ratings in memory gives, dealt as the rule says."""

from __future__ import annotations

import gzip
import os
import threading
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from dmf_fast.data import DataError, ReadOptions, block_writer, blocks, deal, read_ratings, save_ratings
from dmf_fast.data.block_files import read_blocks_facts
from dmf_fast.data.blocks import prepare_blocks
from tests.data.row_blocks import (
    POLICIES,
    TEXT,
    Dealt,
    blocks_of,
    contents,
    expected_blocks,
    skewed_file,
    written,
)


def expected_or_problem(
    source: Path, count: int, options: ReadOptions, duplicates: str
) -> tuple[list[Dealt], str | None]:
    """Return what the blocks are, or what is wrong with the ratings."""
    try:
        rows = len(read_ratings(source, options).row_ids)
        if count > rows:
            return [], f"`blocks` must be at most the number of rows, {rows}, got {count}"
        return expected_blocks(source, count, options, duplicates), None
    except DataError as error:
        return [], str(error)


IDS = {
    "integers": st.integers(-3, 12).map(str),
    "text": st.text("aZé7 ", min_size=1, max_size=3).filter(lambda text: text.strip()),
    "integers, then text": st.integers(0, 9).map(str) | st.sampled_from(["007", "x", "-1"]),
}
BAD_LINES = st.sampled_from(["1,2", "1,2,nan", ",2,3", "1,2,many", "1,,3"])


@st.composite
def rating_lines(draw: st.DrawFn) -> list[str]:
    ids = [IDS[draw(st.sampled_from(sorted(IDS)))] for _ in range(2)]
    value = st.integers(-8, 8).map(lambda quarters: str(quarters / 4))
    good = draw(st.lists(st.tuples(*ids, value).map(",".join), min_size=3, max_size=40))
    bad = draw(st.lists(BAD_LINES, max_size=len(good) // 3))
    return good[:2] + draw(st.permutations(good[2:] + bad))


@settings(max_examples=25)
@given(
    rating_lines(),
    st.integers(1, 5),
    st.sampled_from(POLICIES),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([30, 1 << 22]),
)
def test_blocks_hold_what_is_read_in_memory_dealt_row_by_row(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[str],
    count: int,
    duplicates: Any,
    dtype: Any,
    block_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("blocks")
    source, options = written(folder / "a.csv", lines), ReadOptions(dtype=dtype, separator=",")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_BYTES", block_bytes)
        patch.setattr(deal, "_FETCHED_ROWS", 3)
        patch.setattr(block_writer, "ROWS_A_BATCH", 4)
        expected, problem = expected_or_problem(source, count, options, duplicates)
        if problem is not None:
            with pytest.raises(ValueError) as raised:  # noqa: PT011
                prepare_blocks(source, folder / "out", count, options, duplicates=duplicates)
            assert problem in str(raised.value)
            return
        facts = prepare_blocks(source, folder / "out", count, options, duplicates=duplicates)
    assert blocks_of(folder / "out") == expected
    assert facts == read_blocks_facts(folder / "out")
    values = [value for block in expected for _, row in block for value in row.values()]
    assert (facts.entries, facts.largest) == (len(values), max(map(abs, values)))
    assert facts.bad_rows == read_ratings(source, options).bad_rows


@pytest.mark.parametrize("duplicates", ["mean", "last"])
def test_files_are_the_same_bytes_every_time_and_for_any_number_of_threads(
    tmp_path: Path, duplicates: Any
) -> None:
    source = skewed_file(tmp_path / "a.parquet")
    options = ReadOptions(dtype="float64")
    for name, threads, memory in (("a", 1, 400), ("b", 2, 2000), ("c", 5, 3000)):
        prepare_blocks(
            source, tmp_path / name, 7, options, duplicates=duplicates, threads=threads, memory=memory
        )
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


def test_blocks_of_many_skewed_ratings_are_as_dealt_and_balanced(tmp_path: Path) -> None:
    source = skewed_file(tmp_path / "a.parquet")

    facts = prepare_blocks(source, tmp_path / "out", 16, duplicates="first")

    expected = expected_blocks(source, 16, ReadOptions(), "first")
    assert blocks_of(tmp_path / "out") == expected
    assert max(facts.block_entries) < 1.001 * sum(facts.block_entries) / 16
    counts = Counter(len(block) for block in expected)
    assert set(counts) <= {facts.rows_a_block, facts.rows_a_block - 1}


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ratings.csv", TEXT)


def write_folder(path: Path) -> None:
    path.mkdir()
    for part in (0, 1):
        (path / f"part-{part}.csv").write_text(TEXT.rstrip("\n").replace("\n", f"\n{part} "))


NETFLIX = "1:\n7,3,2005-09-06\n9,4,2005-09-06\n2:\n7,5,2005-09-08\n"
MATRIX = scipy.sparse.coo_array(([1.0, 2.0, 3.0, 4.0], ([0, 1, 1, 2], [0, 0, 2, 1])), shape=(4, 3))
FORMATS: dict[str, Callable[[Path], object]] = {
    "ratings.csv": lambda path: path.write_text(TEXT),
    "u.data": lambda path: path.write_text("1\t7\t3\t881250949\n2\t7\t4\t881250949\n2\t9\t1\t881250949\n"),
    "ratings.dat": lambda path: path.write_text("1::7::3::881250949\n2::7::4::881250949\n"),
    "latin.csv.gz": lambda path: path.write_bytes(gzip.compress(TEXT.encode())),
    "combined_data_1.txt": lambda path: path.write_text(NETFLIX),
    "a.parquet": lambda path: pq.write_table(
        pa.table({"user": ["a", "b", "b"], "item": [1, 2, 3], "rating": [1.0, 2.0, 0.5]}), path
    ),
    "a.mtx": lambda path: scipy.io.mmwrite(path, MATRIX),
    "a.npz": lambda path: scipy.sparse.save_npz(path, MATRIX),
    "a.zip": write_zip,
    "folder": write_folder,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_that_is_read_in_memory_is_dealt(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)

    prepare_blocks(tmp_path / name, tmp_path / "out", 2)

    assert blocks_of(tmp_path / "out") == expected_blocks(tmp_path / name, 2, ReadOptions(), "error")


def test_a_store_is_dealt_with_its_own_ids_and_bad_rows(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text(TEXT + "bob,w,bad\n")
    save_ratings(read_ratings(source), tmp_path / "store")

    facts = prepare_blocks(tmp_path / "store", tmp_path / "out", 2)

    assert blocks_of(tmp_path / "out") == expected_blocks(source, 2, ReadOptions(), "error")
    assert facts.bad_rows == read_ratings(source).bad_rows


def test_a_pipe_is_dealt_though_its_ids_turn_out_to_be_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 30)
    lines = [f"{k},{k % 3},1" for k in range(20)] + ["x,y,2"]
    source = written(tmp_path / "a.csv", lines)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(source.read_bytes()))
    writer.start()

    prepare_blocks(tmp_path / "pipe", tmp_path / "out", 3)

    writer.join()
    assert blocks_of(tmp_path / "out") == expected_blocks(source, 3, ReadOptions(), "error")


def test_a_bad_row_is_an_error_where_it_is_asked_for(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", ["1,1,1", "2,2,2", "1,2,bad"])
    with pytest.raises(DataError, match=r"a\.csv, line 4: "):
        prepare_blocks(source, tmp_path / "out", 1, ReadOptions(strict=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"blocks": 0}, "`blocks` must be at least 1, got 0"),
        ({"memory": 399}, "`memory` must be at least 400, got 399"),
        ({"threads": 0}, "`threads` must be at least 1, got 0"),
        ({"duplicates": "drop"}, "`duplicates` must be one of error, first"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    source = written(tmp_path / "a.csv", ["1,1,1"])
    with pytest.raises(ValueError, match=message):
        prepare_blocks(source, tmp_path / "out", **({"blocks": 1} | more))
