"""The layout buffer that the native builder writes, as Python reads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dmf_fast import Observations, _native
from dmf_fast.observations.layout import build_layout, caller_positions, decode_layout, index_dtype

Pattern = tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int]]


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """Distinct entries in random order: skewed, empty, single rows and columns, full matrices."""
    shape = (draw(st.integers(1, 700)), draw(st.integers(1, 700)))
    density = draw(st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
    skew = draw(st.sampled_from([0.0, 1.0, 2.0]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    row_weight = (1.0 + np.arange(shape[0])) ** -skew
    column_weight = (1.0 + np.arange(shape[1])) ** -skew
    chance = density * np.outer(row_weight, column_weight)
    rows, columns = np.nonzero(random.random(shape) < chance)
    order = random.permutation(len(rows))
    return rows[order], columns[order], shape


def build(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> torch.Tensor:
    dtype = index_dtype(shape)
    return build_layout(rows.astype(dtype), columns.astype(dtype), shape)


@settings(deadline=None, max_examples=60)
@given(patterns())
def test_decoding_gives_back_the_pattern_in_the_callers_order(pattern: Pattern) -> None:
    rows, columns, shape = pattern
    decoded_rows, decoded_columns = decode_layout(build(rows, columns, shape))
    np.testing.assert_array_equal(decoded_rows, rows)
    np.testing.assert_array_equal(decoded_columns, columns)


@settings(deadline=None, max_examples=60)
@given(patterns())
def test_positions_are_a_permutation(pattern: Pattern) -> None:
    rows, columns, shape = pattern
    positions = caller_positions(build(rows, columns, shape), len(rows))
    np.testing.assert_array_equal(np.sort(positions.numpy()), np.arange(len(rows)))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (5, 4)])
def test_an_empty_pattern_has_a_layout(shape: tuple[int, int]) -> None:
    empty = np.zeros(0, dtype=np.int64)
    buffer = build(empty, empty, shape)
    assert len(decode_layout(buffer)[0]) == 0
    assert caller_positions(buffer, 0).numel() == 0


def test_64_bit_indices_give_the_same_layout() -> None:
    rows, columns = np.nonzero(np.random.default_rng(0).random((300, 200)) < 0.1)
    narrow = build_layout(rows.astype(np.int32), columns.astype(np.int32), (300, 200))
    wide = build_layout(rows, columns, (300, 200))
    assert torch.equal(narrow, wide)


def test_more_than_2_to_the_31_columns_are_held_in_64_bits() -> None:
    shape = (2, 2**31)
    assert index_dtype(shape) is np.int64
    assert index_dtype((2, 2**31 - 1)) is np.int32
    rows, columns = np.array([1, 0, 1]), np.array([2**31 - 1, 5, 0])
    decoded_rows, decoded_columns = decode_layout(build(rows, columns, shape))
    assert decoded_rows.tolist() == [1, 0, 1]
    assert decoded_columns.tolist() == [2**31 - 1, 5, 0]


def test_the_layout_does_not_depend_on_the_number_of_threads() -> None:
    rows, columns = np.nonzero(np.random.default_rng(1).random((400, 900)) < 0.2)
    threads = torch.get_num_threads()
    try:
        buffers = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            buffers.append(build(rows, columns, (400, 900)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(buffers[0], buffers[1])
    assert torch.equal(buffers[0], buffers[2])


def test_a_nearly_empty_huge_matrix_is_refused_with_advice() -> None:
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(ValueError, match="map ids to consecutive indices"):
        build(empty, empty, (2**40, 2**40))


def test_a_layout_takes_about_ten_bytes_an_entry() -> None:
    random = np.random.default_rng(2)
    cells = random.choice(2000 * 1000, size=200_000, replace=False)
    buffer = build(cells // 1000, cells % 1000, (2000, 1000))
    facts = _native.describe_layout(buffer.numpy())
    assert facts["nnz"] == 200_000
    assert buffer.numel() / 200_000 < 12


@pytest.mark.parametrize("place", ["rows", "columns"])
def test_an_index_near_the_end_of_64_bits_is_an_error_and_not_a_crash(place: str) -> None:
    entries = {"rows": [0], "columns": [0], place: [2**63 - 2]}
    with pytest.raises(ValueError, match="too many rows and columns for a layout: map ids"):
        Observations(entries["rows"], entries["columns"], [1.0]).layout()
