"""Distinct ids found in one reading agree with what sorting all of them gives."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast.data import id_collector
from dmf_fast.data.chunks import TextIdsFound
from dmf_fast.data.id_collector import IdCollector

BATCHES = st.lists(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), max_size=12), max_size=8)


@given(BATCHES, st.booleans(), st.sampled_from([1, 7, 1000]))
def test_indices_and_ids_are_those_of_sorting_everything(
    batches: list[list[int]], text: bool, pending: int
) -> None:
    collector = IdCollector(0, text=text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_collector, "_PENDING_ENTRIES", pending)
        for batch in batches:
            collector.add(pa.array(batch, pa.int64()))
        indices, ids = collector.finish()

    entries = [str(key) if text else key for batch in batches for key in batch]
    distinct = sorted(set(entries))
    assert ids.ids.to_pylist() == distinct
    assert indices.tolist() == [distinct.index(entry) for entry in entries]
    assert indices.dtype == np.int32


def test_text_among_integers_asks_for_another_reading() -> None:
    collector = IdCollector(1, text=False)
    collector.add(pa.array([1, 2]))

    with pytest.raises(TextIdsFound) as caught:
        collector.add(pa.array(["a"], pa.large_string()))

    assert caught.value.role == 1
