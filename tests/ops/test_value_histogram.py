"""How often every value occurs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from dmf_fast.observations import Observations
from dmf_fast.ops import value_histogram as module
from dmf_fast.ops.value_histogram import value_histogram


def observations(values: np.ndarray, dtype: torch.dtype = torch.float32) -> Observations:
    places = np.arange(len(values))
    return Observations(places // 50, places % 50, values, dtype=dtype)


@pytest.mark.parametrize("at_once", [7, 1 << 22])
def test_up_to_twenty_distinct_values_have_a_bin_each(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    values = np.random.default_rng(3).integers(1, 21, 2000) / 2

    bins = value_histogram(observations(values))

    assert {part.lowest: part.count for part in bins} == Counter(values.tolist())
    assert all(part.lowest == part.highest for part in bins)
    assert [part.lowest for part in bins] == sorted(part.lowest for part in bins)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_more_values_share_twenty_bins_of_equal_width(dtype: torch.dtype) -> None:
    values = np.random.default_rng(3).normal(size=2000)

    bins = value_histogram(observations(values, dtype))

    assert len(bins) == 20
    assert sum(part.count for part in bins) == 2000
    widths = [part.highest - part.lowest for part in bins]
    assert widths == pytest.approx([(values.max() - values.min()) / 20] * 20, rel=1e-5)
    middle = bins[10]
    inside = (middle.lowest <= values) & (values < middle.highest)
    assert middle.count == pytest.approx(inside.sum(), abs=1)


def test_one_value_is_one_bin() -> None:
    (part,) = value_histogram(observations(np.full(9, 3.0)))

    assert (part.lowest, part.highest, part.count) == (3.0, 3.0, 9)
