"""Distinct ids found in one reading agree with what sorting all of them gives."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast.data import id_collector
from dmf_fast.data.id_collector import IdCollector

BATCHES = st.lists(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), max_size=12), max_size=8)


@given(BATCHES, st.booleans(), st.sampled_from([1, 7, 1000]))
def test_indices_and_ids_are_those_of_sorting_everything(
    batches: list[list[int]], text: bool, pending: int
) -> None:
    collector = IdCollector(text=text)
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


@given(BATCHES, BATCHES, st.sampled_from([1, 7, 1000]))
def test_text_among_integers_makes_all_ids_text(
    integers: list[list[int]], texts: list[list[int]], pending: int
) -> None:
    collector = IdCollector(text=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_collector, "_PENDING_ENTRIES", pending)
        for batch in integers:
            collector.add(pa.array(batch, pa.int64()))
        for batch in texts:
            collector.add(pa.array([f"{key}" for key in batch], pa.large_string()))
        indices, ids = collector.finish()

    entries = [str(key) for batch in integers + texts for key in batch]
    assert ids.holds_text == bool(texts)
    assert [str(ids.ids[int(index)].as_py()) for index in indices] == entries
    assert len(ids) == len(set(entries))
