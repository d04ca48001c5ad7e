"""What is guessed of a text table loses no rows and no columns, and says where it may be wrong."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pytest

from dmf_fast.data import DataError, Pairs, ReadOptions, as_ratings, read_pairs, read_ratings
from tests.data.written_ratings import column_ids, parquet, row_ids

STRICT = ReadOptions(strict=True)


def write(folder: Path, text: str | bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def pairs_of(pairs: Pairs) -> list[tuple[Any, Any]]:
    return list(zip(row_ids(pairs), column_ids(pairs), strict=True))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["7", "7.0", " 7", "7.00"], [7, 7, 7, 7]),
        (["-0", "0.0", "-3"], [0, 0, -3]),
        (["7", "\ufeff7 ", "\xa07"], [7, 7, 7]),
        (["7.0", "x"], ["7", "x"]),
        ([" ann", "ann ", '" ann "', "\tann"], ["ann"] * 4),
        (["007", "7"], ["007", "7"]),
        ([" 007", "7"], ["007", "7"]),
        (["-007", "-7"], ["-007", "-7"]),
        (["+7", "7"], ["+7", "7"]),
        (["1e3", "1000"], ["1e3", "1000"]),
        (["0x1F", "31"], ["0x1F", "31"]),
        (["٧", "7"], ["٧", "7"]),
        (["2.5", "2.0"], ["2.5", "2"]),
        (["nan", "None", "true"], ["nan", "None", "true"]),
        (["18446744073709551615", "7.0"], ["18446744073709551615", "7"]),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("with_bad_line", [False, True])
def test_ids_of_text_are_the_same_however_they_are_written(
    tmp_path: Path, ids: list[str], expected: list[object], side: int, with_bad_line: bool
) -> None:
    lines = [f"{key},5,3\n" if side == 0 else f"5,{key},3\n" for key in ids] + ["1,5,x\n"] * with_bad_line

    ratings = read_ratings(write(tmp_path, "user,item,rating\n" + "".join(lines)))

    assert (row_ids, column_ids)[side](ratings) == expected
    assert (column_ids, row_ids)[side](ratings) == [5] * len(ids)
    assert ratings.bad_rows.count == with_bad_line


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([7.0, None, 8.0]), [7, None, 8]),
        (pa.array([7.0, 2.5, float("nan")]), ["7", "2.5", None]),
        (pa.array([7.0, float("inf")], pa.float32()), [7, None]),
        (pa.array(["7.00", "3.00"]).cast(pa.decimal128(5, 2)), [7, 3]),
        (pa.array(["7.50", "3.00"]).cast(pa.decimal128(5, 2)), ["7.50", "3"]),
        (pa.array([2**63, 7], pa.uint64()), [str(2**63), "7"]),
        (pa.array([2**63 - 1, 7], pa.uint64()), [2**63 - 1, 7]),
        (pa.array([" ann", "ann", " ", "7.0"]), ["ann", "ann", None, "7"]),
        (pa.array([" ann", "ann", " ", "7.0"]).dictionary_encode(), ["ann", "ann", None, "7"]),
    ],
)
def test_ids_of_parquet_and_of_python_follow_the_rule_of_text(
    tmp_path: Path, ids: pa.Array, expected: list[object]
) -> None:
    rest = [3.0] * (len(ids) + 2)
    both = pa.concat_arrays([ids, pa.nulls(0, ids.type), ids.slice(0, 1), ids.slice(0, 1)])
    table = pa.table({"user": both, "item": [1] * len(rest), "rating": rest})
    expected = [key for key in [*expected, expected[0], expected[0]] if key is not None]
    read, given = read_ratings(write(tmp_path, parquet(table), "a.parquet")), as_ratings(table)

    assert row_ids(read) == expected
    assert read.bad_rows.count == len(rest) - len(expected)
    assert given.bad_rows.count == read.bad_rows.count
    assert given.mapped_to(read.row_ids, read.column_ids).rows.tolist() == read.rows.tolist()
    assert read.mapped_to(given.row_ids, given.column_ids).rows.tolist() == given.rows.tolist()


def test_a_frame_of_integers_with_gaps_has_the_ids_of_its_file(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"user": [7, None, 9, 10], "item": [1, 2, 3, 4], "rating": [1, 2, 3, 4]})
    path = tmp_path / "gaps.csv"
    frame.to_csv(path, index=False)

    assert "7.0" in path.read_text()
    for ratings in (read_ratings(path), as_ratings(frame)):
        assert row_ids(ratings) == [7, 9, 10]
        assert ratings.bad_rows.count == 1


def test_ids_of_doubles_that_are_rounded_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"rounded from 2\^53 on, such as 76561197960265728"):
        as_ratings((np.array([76561197960265728.0, 7]), [1, 2], [1, 2]))


@pytest.mark.parametrize("columns", [None, ["1", "2"]])
def test_the_first_of_headerless_text_pairs_is_a_pair(tmp_path: Path, columns: list[str] | None) -> None:
    path = write(tmp_path, "ann,x\nbob,y\n")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pairs = read_pairs(path, ReadOptions(columns=columns))

    assert pairs_of(pairs) == [("ann", "x"), ("bob", "y")]
    assert bool(caught) == (columns is None)
    assert all("'ann,x', is read as a pair" in str(one.message) for one in caught)


def test_an_unknown_header_of_pairs_is_warned_of_where_the_others_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "viewer,film\n1,2\n3,4\n")

    with pytest.warns(UserWarning, match="pass --columns with names"):
        pairs = read_pairs(path, ReadOptions(columns=["1", "2"]))

    assert len(pairs) == 3
    assert pairs_of(read_pairs(path, ReadOptions(columns=["film", "viewer"]))) == [(2, 1), (4, 3)]


@pytest.mark.parametrize("first", ["ann,x,", "ann,x,NA", "ann,x, ?", "ann,,-"])
def test_a_first_line_without_a_value_is_a_bad_row_and_no_header(tmp_path: Path, first: str) -> None:
    ratings = read_ratings(write(tmp_path, f"{first}\nbob,y,3\ncid,y,4\n"))

    assert row_ids(ratings) == ["bob", "cid"]
    assert ratings.bad_rows.count == 1


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n", STRICT),
        ("item_id:token\trating:float\tuser_id:token\n2\t3\t1\n", STRICT),
        ("i:token\tx:token_seq\ty:float\tu:token\n2\ta b\t3\t1\n", ReadOptions(columns=["u", "i", "y"])),
        ("\ufeffuserId,movieId,rating,2019\n1,2,3,4\n", STRICT),
        ("stars,film,viewer\n3,2,1\n", ReadOptions(columns=["viewer", "film", "stars"])),
        ("viewer,film,stars\n1,2,3\n", ReadOptions(columns=["1", "2", "3"])),
        ("# written by hand\n% 1 1 1\n\n1 2 3\n", STRICT),
        ("#item,user,rating\n2,1,3\n", STRICT),
        ("# user item rating\n1 2 3\n", STRICT),
        ("#\n# user,item,rating\nuser,item,rating\n1,2,3\n", STRICT),
        ("   1     2    3\n", STRICT),
        ("  1  2 3  \r\n\r\n", STRICT),
        ("user   item  rating\n   1     2   3.0 \n", STRICT),
        ("1\\2\\3\n", ReadOptions(separator="\\")),
        ("1\t2\t3\n", ReadOptions(separator="\\t")),
        ("1||2||3\n", ReadOptions(separator="||")),
        ("1§2§3\n", ReadOptions(separator="§")),
        ("1;2;3;a,b\n", STRICT),
        ("1,2,3,a;b\n", STRICT),
        ("1,2,3,2005-01-01 00:00:00\n1,,,2005-01-01 00:00:00\n", ReadOptions()),
        ("1|2,0|3\n", STRICT),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", [None, "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_a_table_is_understood_in_every_way_to_write_it(
    tmp_path: Path, text: str, options: ReadOptions, encoding: str | None
) -> None:
    if encoding == "utf-16-le":
        options = ReadOptions(**{**vars(options), "encoding": encoding})
    path = write(tmp_path, text.encode(encoding or "utf-8"))

    ratings = read_ratings(path, options)

    column = [20] if "2,0" in text else [2]
    assert (row_ids(ratings)[-1:], ratings.values.tolist()[-1:]) == ([1], [3])
    assert column_ids(ratings) in (column, ["2,0"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#cats,u1,3\n#dogs,u2,4\nfish,u1,5\n", ["#cats", "#dogs", "fish"]),
        ('"a  b"   x   3\n  c  x  4\n', ["a  b", "c"]),
        ('"a,b",x,3\n"c;d",x,4\n', ["a,b", "c;d"]),
        ('5" disk,x,3\n"a""b",x,4\n', ['5" disk', 'a"b']),
        ("a|b,x,3\nc|d,x,4\n", ["a|b", "c|d"]),
    ],
)
@pytest.mark.parametrize("bad", [False, True])
def test_ids_keep_the_letters_that_mean_something_elsewhere(
    tmp_path: Path, text: str, expected: list[str], bad: bool
) -> None:
    ratings = read_ratings(write(tmp_path, text + 'z,"x,3\n' * bad))

    assert row_ids(ratings) == expected
    assert ratings.bad_rows.count == bad


@pytest.mark.parametrize("text", ["1;2;4,5\n3;4;5,5\n", "1;2;4,5\n", "a|b,c|d\n"])
def test_pairs_that_two_separators_cut_are_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(DataError, match=r"may be separated by .* choose one with --separator"):
        read_pairs(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(read_pairs(path, ReadOptions(separator=text.strip("1a")[0]))) == text.count("\n")


@pytest.mark.parametrize("lines_before", [0, 30_000])
def test_only_wanted_cells_must_be_in_the_encoding(tmp_path: Path, lines_before: int) -> None:
    head = b"user,item,rating,title\n" + b"1,2,3,plain\n" * lines_before
    path = write(tmp_path, head + "1,2,3,Café\n2,2,,Café\n3,2,3,x\n4,2,3,x\n".encode("latin-1"))
    undecodable = write(tmp_path, head + "Café,2,3,x\n".encode("latin-1"), "undecodable.csv")

    ratings = read_ratings(path)

    assert (len(ratings), ratings.bad_rows.count) == (lines_before + 3, 1)
    with pytest.raises(DataError, match=rf"line {lines_before + 2}: the row .*--encoding, such as latin-1"):
        read_ratings(undecodable)
    assert row_ids(read_ratings(undecodable, ReadOptions(encoding="latin-1")))[-1] == "Café"


@pytest.mark.parametrize("header", [["movie", "movie_id"], ["item", "itemId"]])
def test_two_columns_for_one_role_are_warned_of(tmp_path: Path, header: list[str]) -> None:
    path = write(tmp_path, f"user,{','.join(header)},rating\n1,2,3,4\n")

    with pytest.warns(UserWarning, match=f"'{header[0]}' and '{header[1]}' may be the column .*--columns"):
        assert column_ids(read_ratings(path)) == [2]


def test_a_name_that_stands_twice_is_picked_by_position(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,stars,stars\n1,2,3,4\n")

    with pytest.raises(DataError, match=r"2 columns are called 'stars'; pick one by its position"):
        read_ratings(path, ReadOptions(columns=["user", "item", "stars"]))
    assert read_ratings(path, ReadOptions(columns=["user", "item", "4"])).values.tolist() == [4]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"separator": ""}, "`separator` must be"),
        ({"separator": "a"}, "`separator` must be"),
        ({"separator": '"'}, "`separator` must be"),
        ({"separator": "\n"}, "`separator` must be"),
        ({"encoding": "klingon"}, "`encoding` must be one that Python knows"),
        ({"encoding": "base64"}, "`encoding` must be one that Python knows"),
        ({"encoding": "a\0b"}, "`encoding` must be one that Python knows"),
    ],
)
def test_options_that_no_reader_can_follow_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReadOptions(**options)


def test_ids_that_stand_in_bad_rows_alone_are_in_no_map(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,rating\nann,x,3\nbob,y,?\ncid,x,4\n")
    users = pa.DictionaryArray.from_arrays([0, 2, 3], ["ann", "eve", "bob", "cid"])
    table = pa.table({"user": users, "item": ["x", "y", "x"], "rating": [3, None, 4]})

    for ratings in (
        read_ratings(path),
        read_ratings(write(tmp_path, parquet(table), "a.parquet")),
        as_ratings(table),
    ):
        assert ratings.row_ids.ids.to_pylist() == ["ann", "cid"]
        assert ratings.column_ids.ids.to_pylist() == ["x"]
