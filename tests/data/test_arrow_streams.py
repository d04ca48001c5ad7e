"""Whatever exports an Arrow stream gives the ratings that its file would give, read once and in batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from dmf_fast.data import DataError, Ratings, ReadOptions, as_ratings, in_memory, open_ratings, read_ratings
from tests.data.written_ratings import column_ids, row_ids

TABLE = pa.table(
    {
        "note": ["a", None, "c", "d"] * 500,
        "rating": np.arange(2000) % 5 + 0.5,
        "user": [f"käse {k * 7 % 31}" for k in range(2000)],
        "item": np.arange(2000, dtype=np.int32) * 13 % 2003,
        "time": np.arange(2000) + 10**9,
    }
)
PAIR = pa.table({"user": ["ann", "bob"], "item": [7, 9], "rating": [4.5, 3.0]})


class Stream:
    """Exports a stream, and nothing else, a single time."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self._reader: pa.RecordBatchReader | None = pa.RecordBatchReader.from_batches(schema, batches)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        assert self._reader is not None, "the stream is read a second time"
        reader, self._reader = self._reader, None
        return reader.__arrow_c_stream__(requested_schema)


def stream_of(*batches: pa.RecordBatch) -> Stream:
    return Stream(batches[0].schema, iter(batches))


def column(ids: pa.Array, rows: int | None = None) -> pa.RecordBatch:
    """A batch with these row ids."""
    count = len(ids) if rows is None else rows
    return pa.record_batch({"user": ids, "item": np.arange(count), "rating": np.ones(count)})


def of_duckdb(table: pa.Table) -> Any:
    return duckdb.connect().from_arrow(table)


def of_a_duckdb_query(table: pa.Table) -> Any:
    connection = duckdb.connect()
    connection.register("ratings", table)
    return connection.execute("SELECT * FROM ratings")


def assert_same(found: Ratings, expected: Ratings) -> None:
    for name in ("rows", "columns", "values", "times"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    for ids in ("row_ids", "column_ids"):
        assert getattr(found, ids).ids.equals(getattr(expected, ids).ids)
    assert found.bad_rows.count == expected.bad_rows.count


@pytest.mark.filterwarnings("ignore:Arrow output on a DB-API result")  # DuckDB prefers relations
@pytest.mark.parametrize(
    "source",
    [
        of_duckdb,
        of_a_duckdb_query,
        polars.from_arrow,
        lambda table: polars.from_arrow(table).lazy(),
        lambda table: polars.from_arrow(table).with_columns(polars.col("user").cast(polars.Categorical)),
        lambda table: stream_of(*table.to_batches(max_chunksize=300)),
        lambda table: table,
        lambda table: table.to_reader(max_chunksize=300),
        pyarrow.dataset.dataset,
        lambda table: pyarrow.dataset.dataset(table).scanner(),
        lambda table: table.to_pandas(),
    ],
)
@pytest.mark.parametrize("rows_a_chunk", [7, 1 << 20])
def test_ratings_are_those_of_the_same_data_in_a_file(
    tmp_path: Path, source: Callable[[pa.Table], Any], rows_a_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_memory, "ROWS_A_CHUNK", rows_a_chunk)
    pq.write_table(TABLE, tmp_path / "a.parquet")
    csv.write_csv(TABLE, tmp_path / "a.csv")
    options = ReadOptions(times=True)

    found = open_ratings(source(TABLE), options)

    assert_same(found, read_ratings(tmp_path / "a.parquet", options))
    assert_same(found, read_ratings(tmp_path / "a.csv", options))


def test_a_lazy_scan_of_a_file_is_what_reading_the_file_is(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet")
    scan = polars.scan_parquet(tmp_path / "a.parquet").filter(polars.col("rating") > 1)

    expected = read_ratings(tmp_path / "a.parquet", ReadOptions(times=True))

    assert_same(
        open_ratings(scan, ReadOptions(times=True)).mapped_to(expected.row_ids, expected.column_ids),
        expected.select(expected.values > 1),
    )


def test_of_a_lazy_frame_only_the_wanted_columns_are_computed() -> None:
    def fail(_: polars.Series) -> polars.Series:
        raise AssertionError("a column that nobody wants is computed")

    frame = polars.LazyFrame(PAIR.to_pydict()).with_columns(
        note=polars.col("item").map_batches(fail, return_dtype=polars.Int64)
    )

    assert row_ids(as_ratings(frame)) == ["ann", "bob"]


NUMBERS, TEXTS = [3, None, 1], ["b", None, "a"]
TEXT_TYPES = [pa.string(), pa.large_string(), pa.string_view()]


@pytest.mark.parametrize(
    "ids",
    [
        *(pa.array(NUMBERS, kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
        *(pa.array(NUMBERS, kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
        *(pa.array(NUMBERS, pa.int32()).cast(kind) for kind in (pa.float16(), pa.float32(), pa.float64())),
        pa.array(NUMBERS, pa.int32()).cast(pa.decimal128(12, 2)),
        pa.array(NUMBERS).dictionary_encode(),
        *(pa.array(TEXTS).cast(kind) for kind in TEXT_TYPES),
        *(
            pa.DictionaryArray.from_arrays(
                pa.array([1, None, 0], pa.uint8()), pa.array(["a", "b"]).cast(kind)
            )
            for kind in TEXT_TYPES
        ),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_of_every_type_of_numbers_and_text_are_read_and_null_ones_are_bad(ids: pa.Array) -> None:
    ratings = as_ratings(stream_of(column(ids), column(ids)))

    expected = TEXTS if ratings.row_ids.holds_text else NUMBERS
    assert row_ids(ratings) == [expected[0], expected[2]] * 2
    assert ratings.row_ids.holds_text == ("string" in str(ids.type))
    assert ratings.bad_rows.examples == tuple(
        f"data, row {row}: the row (user) is missing; fill it in or drop the line" for row in (2, 5)
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (
            pa.array([1, 2], pa.uint64()),
            pa.array([2**63 + 5, 1], pa.uint64()),
            ["1", "2", f"{2**63 + 5}", "1"],
        ),
        (pa.array([1.0, 2.0]), pa.array([2.5, 1.0]), ["1", "2", "2.5", "1"]),
    ],
)
def test_ids_that_turn_out_to_be_text_need_no_second_reading(
    tmp_path: Path, first: pa.Array, second: pa.Array, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_memory, "ROWS_A_CHUNK", 2)
    pq.write_table(pa.Table.from_batches([column(first), column(second)]), tmp_path / "a.parquet")

    ratings = as_ratings(stream_of(column(first), column(second)))

    assert row_ids(ratings) == expected == row_ids(read_ratings(tmp_path / "a.parquet"))


def test_a_stream_is_read_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    count, rows = 20, 10**5
    monkeypatch.setattr(in_memory, "ROWS_A_CHUNK", rows)
    before, held = pa.total_allocated_bytes(), []

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(count):
            yield pa.record_batch(
                {"user": np.ones(rows, np.int64)} | dict.fromkeys(("item", "rating"), np.ones(rows))
            )
            held.append(pa.total_allocated_bytes() - before)

    ratings = as_ratings(Stream(column(pa.array([1])).schema, batches()))

    assert len(ratings) == count * rows
    assert max(held) < 24 * count * rows / 2


@pytest.mark.parametrize("kind", [pa.bool_(), pa.date32(), pa.timestamp("s")])
def test_ids_of_other_types_are_kept_as_python_objects(kind: pa.DataType) -> None:
    ids = pa.array([1, 0], pa.int32()).cast(kind) if pa.types.is_boolean(kind) else pa.array([1, 0], kind)

    assert row_ids(as_ratings(stream_of(column(ids)))) == ids.to_pylist()


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(12, 2)])
def test_values_of_every_numeric_type_are_read(kind: pa.DataType) -> None:
    values = pa.array([4, None, 3], pa.int32()).cast(kind)
    batch = pa.record_batch({"user": [1, 2, 3], "item": [1, 2, 3], "rating": values})

    ratings = as_ratings(stream_of(batch))

    assert ratings.values.tolist() == [4, 3]
    assert "row 2: the value (rating) is missing" in ratings.bad_rows.examples[0]


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.large_string()])
def test_times_may_be_text(kind: pa.DataType) -> None:
    times = pa.array(["1970-01-01T00:01:00Z", "7"]).cast(kind)
    for column_of_times in (times, times.cast(pa.string()).dictionary_encode()):
        table = pa.record_batch(
            {"user": [1, 2], "item": [1, 2], "rating": [1.0, 2.0], "time": column_of_times}
        )
        read = as_ratings(stream_of(table), ReadOptions(times=True)).times
        assert read is not None
        assert read.tolist() == [60, 7]


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (PAIR.rename_columns(["a", "b", "c"]), {}, "no column is recognized as row .* among a, b, c; choose"),
        (PAIR.select(["user", "item"]), {}, "data: 2 columns found, but at least 3 were expected"),
        (
            PAIR,
            {"columns": ["user", "item", "stars"]},
            "there is no column 'stars'; it has user, item",
        ),
        (PAIR, {"columns": ["user", "rating"]}, "2 columns picked, but 3 are needed"),
        (PAIR, {"columns": ["item", "rating", "user"]}, "'user' was taken as value .* but it holds string"),
        (PAIR.set_column(2, "rating", pa.array([True, False])), {}, "'rating' was taken as .* it holds bool"),
        (PAIR.append_column("user", pa.array([1, 2])), {"columns": ["user", "item", "rating"]}, "2 columns"),
        (PAIR, {"times": True}, "3 columns found, but times need a fourth one"),
    ],
)
def test_wrong_columns_end_in_the_sentences_of_files(
    data: pa.Table, options: dict[str, Any], words: str
) -> None:
    for source in (data, stream_of(*data.to_batches())):
        with pytest.raises(DataError, match=words):
            as_ratings(source, ReadOptions(**options))


def test_the_first_bad_row_is_an_error_where_reading_is_strict() -> None:
    batches = [column(pa.array([1, 2])), column(pa.array([3, None]))]
    with pytest.raises(DataError, match=r"data, row 4: the row \(user\) is missing"):
        as_ratings(stream_of(*batches), ReadOptions(strict=True))


@pytest.mark.parametrize("batches", [[], [column(pa.array([], pa.int64()))] * 3])
def test_an_empty_stream_gives_no_entries(batches: list[pa.RecordBatch]) -> None:
    ratings = as_ratings(Stream(column(pa.array([1])).schema, iter(batches)))
    assert len(ratings) == 0
    assert ratings.shape == (0, 0)


def test_a_stream_that_breaks_is_named_with_its_reason() -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield column(pa.array([1]))
        raise RuntimeError("the connection is lost")

    schema = column(pa.array([1])).schema
    for source in (Stream(schema, batches()), pa.RecordBatchReader.from_batches(schema, batches())):
        with pytest.raises(DataError) as raised:
            as_ratings(source)
        assert re.fullmatch(
            r"data cannot be read after row 1 \((RuntimeError: )?the connection is lost\); read it .* again",
            str(raised.value),
        )
    with pytest.raises(DataError, match="data cannot be read as a table"):
        as_ratings(polars.Series([1, 2]))
    with pytest.raises(DataError, match=r"data cannot be read as a table .*film"):
        as_ratings(polars.LazyFrame(PAIR.to_pydict()).select("film"))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_and_a_lack_of_memory_stay_what_they_are(kind: type[BaseException]) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield column(pa.array([1]))
        raise kind

    schema = column(pa.array([1])).schema
    for source in (Stream(schema, batches()), pa.RecordBatchReader.from_batches(schema, batches())):
        with pytest.raises(kind):
            as_ratings(source)


def test_names_that_polars_takes_for_patterns_are_names_here() -> None:
    frame = polars.LazyFrame({"user": [7], "item": [3], "^user.*$": [1], "*": [2], "1": [4.0]})
    ratings = as_ratings(frame, ReadOptions(columns=["^user.*$", "*", "1"]))
    assert (row_ids(ratings), column_ids(ratings), ratings.values.tolist()) == ([1], [2], [4])


def test_columns_of_one_name_are_warned_of_in_tables_and_refused_in_datasets() -> None:
    table = PAIR.append_column("user", pa.array([1, 2]))
    with pytest.warns(UserWarning, match="'user' and 'user' may be the row .*; the first is taken"):
        assert row_ids(as_ratings(table)) == ["ann", "bob"]
    with pytest.raises(
        DataError, match=r"a dataset with 2 columns called 'user', .*; rename them, or pass a"
    ):
        as_ratings(pyarrow.dataset.dataset(table))


def test_python_objects_of_polars_are_refused_rather_than_read_as_addresses() -> None:
    frame = polars.DataFrame(
        {"user": polars.Series([object()], dtype=polars.Object), "item": [1], "rating": [2.0]}
    )
    for data in (frame, frame.lazy()):
        with pytest.raises(DataError, match="column of Python objects, 'user'"):
            as_ratings(data)


def test_ratings_are_opened_from_memory_as_from_files(tmp_path: Path) -> None:
    pq.write_table(PAIR, tmp_path / "a.parquet")
    for source in (PAIR, pandas.DataFrame(PAIR.to_pydict()), ("ab", [7, 9], [4.5, 3.0])[1:]):
        if isinstance(source, tuple):
            source = (["ann", "bob"], *source)
        assert_same(open_ratings(source), read_ratings(tmp_path / "a.parquet"))
    assert_same(open_ratings([tmp_path / "a.parquet"]), read_ratings(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match="`cache` must be None for a table in memory"):
        open_ratings(PAIR, cache=tmp_path / "cache")


def test_column_ids_are_read_as_row_ids_are() -> None:
    assert column_ids(
        as_ratings(polars.from_arrow(PAIR.select([1, 0, 2]).rename_columns(PAIR.column_names)))
    ) == [
        "ann",
        "bob",
    ]
