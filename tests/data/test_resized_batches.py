"""Small record batches are joined into chunks, whatever their types and sizes, without a row lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dmf_fast.data import arrow_table, as_ratings
from dmf_fast.data.arrow_table import resized
from tests.data.written_ratings import row_ids


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.int64(), pa.float64()])
def test_small_dictionaries_may_have_more_ids_together_than_their_codes_can_tell_apart(
    kind: pa.DataType,
) -> None:
    def part(first: int) -> pa.Table:
        ids = pa.array(range(first, first + 100)).cast(kind)
        codes = pa.array(range(100), pa.int8())  # as pandas writes categories
        user = pa.DictionaryArray.from_arrays(codes, ids)
        return pa.table({"user": user, "item": codes, "rating": np.ones(100)})

    ratings = as_ratings(pa.concat_tables([part(0), part(100), part(200)]))

    assert [int(key) for key in row_ids(ratings)] == list(range(300))


def test_a_batch_is_counted_once_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    class Batch:
        counted = 0

        def __len__(self) -> int:
            Batch.counted += 1
            return 1

        def slice(self, start: int, rows: int) -> Batch:
            return self

    monkeypatch.setattr(arrow_table, "_joined", len)
    batches: Any = [Batch() for _ in range(1000)]

    assert list(resized(batches, 400)) == [400, 400, 200]
    assert Batch.counted < 10 * len(batches)


@pytest.mark.slow  # 6 GiB of memory
@pytest.mark.parametrize("encoded", [False, True])
def test_more_text_than_a_string_array_can_hold_is_joined_without_loss(encoded: bool) -> None:
    count = 1100
    text = pa.array(["x" * (1 << 20)]).take(pa.array(np.zeros(count, np.int32)))
    batch = pa.record_batch({"user": text.dictionary_encode() if encoded else text})

    def batches() -> Iterator[pa.RecordBatch]:
        yield from (batch, batch)

    assert sum(map(len, resized(batches(), 1 << 20))) == 2 * count
