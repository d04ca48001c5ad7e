"""Measures of a spectrum against NumPy and against what must hold for any matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dmf_fast.chain import balancedness, chain_product
from dmf_fast.spectrum import effective_rank, nuclear_norm, schatten_norm

MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "effective rank": effective_rank,
    "nuclear norm": nuclear_norm,
    "schatten norm": lambda values: schatten_norm(values, 2 / 3),
}

spectra = st.lists(st.floats(0, 1e3, allow_subnormal=False), min_size=1, max_size=12)


def tensor(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def some_matrix(rows: int = 6, columns: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns))


def spectrum_of(matrix: np.ndarray) -> Tensor:
    return tensor(np.linalg.svd(matrix, compute_uv=False))


@given(spectra)
def test_effective_rank_is_the_exponential_of_the_entropy_of_the_shares(values: list[float]) -> None:
    positive = np.array([value for value in values if value > 0])
    shares = positive / positive.sum()
    expected = math.exp(-(shares * np.log(shares)).sum()) if len(positive) else 0.0
    assert float(effective_rank(tensor(values))) == pytest.approx(expected, rel=1e-12)


@given(spectra)
def test_effective_rank_is_from_one_to_the_rank(values: list[float]) -> None:
    rank = sum(value > 0 for value in values)
    assert min(rank, 1) - 1e-12 <= float(effective_rank(tensor(values))) <= rank + 1e-12


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_effective_rank_of_equal_singular_values_is_their_number(rank: int) -> None:
    assert float(effective_rank(tensor([0.3] * rank + [0.0] * 5))) == pytest.approx(rank, rel=1e-14)


def test_nuclear_and_frobenius_norm_are_those_of_the_matrix() -> None:
    matrix = some_matrix()
    values = spectrum_of(matrix)
    assert float(nuclear_norm(values)) == pytest.approx(np.linalg.norm(matrix, "nuc"), rel=1e-13)
    assert float(schatten_norm(values, 2)) == pytest.approx(np.linalg.norm(matrix), rel=1e-13)
    assert float(schatten_norm(values, 1)) == pytest.approx(np.linalg.norm(matrix, "nuc"), rel=1e-13)


@given(spectra, st.floats(0.2, 5))
def test_schatten_norm_is_the_root_of_the_sum_of_powers(values: list[float], p: float) -> None:
    expected = float((np.array(values) ** p).sum() ** (1 / p))
    assert float(schatten_norm(tensor(values), p)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_schatten_two_over_depth_is_the_least_sum_of_squares_of_a_chain(depth: int) -> None:
    left, values, right = np.linalg.svd(some_matrix(), full_matrices=False)
    share = np.diag(values ** (1 / depth))
    factors = [tensor(factor) for factor in (share @ right, *[share] * (depth - 2), left @ share)]
    squares = sum(float(factor.square().sum()) for factor in factors)
    norm = float(schatten_norm(tensor(values), 2 / depth))
    assert depth * norm ** (2 / depth) == pytest.approx(squares, rel=1e-12)
    # A chain of the same product that is not balanced has more.
    skew = tensor(np.diag([2.0, 1.0, 1.0, 1.0]))
    factors[0], factors[1] = skew @ factors[0], factors[1] @ skew.inverse()
    np.testing.assert_allclose(chain_product(factors).numpy(), some_matrix(), atol=1e-12)
    assert float(balancedness(factors)) > 0.1
    assert sum(float(factor.square().sum()) for factor in factors) > squares


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("p", [0.4, 2.0])
def test_very_small_and_very_large_spectra_neither_vanish_nor_overflow(scale: float, p: float) -> None:
    values = tensor([3.0, 2.0, 0.5])
    assert float(schatten_norm(scale * values, p)) / scale == pytest.approx(float(schatten_norm(values, p)))
    assert float(effective_rank(scale * values)) == pytest.approx(float(effective_rank(values)))


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0, 0.0]])
def test_the_zero_matrix_has_zero(measure: Callable[[Tensor], Tensor], values: list[float]) -> None:
    assert float(measure(tensor(values))) == 0


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_every_dtype_is_measured_in_float64(measure: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    values = torch.tensor([7, 3, 1], dtype=dtype)
    assert measure(values).dtype == torch.float64
    assert measure(values).shape == ()
    assert torch.equal(measure(values), measure(values.double()))


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (torch.eye(3), ValueError, r"one-dimensional, got shape \(3, 3\)"),
        (
            torch.tensor([1.0, -2.0]),
            ValueError,
            r"`singular_values` must be at least 0, got singular_values\[1\] = -2.0",
        ),
        (
            torch.tensor([math.nan]),
            ValueError,
            r"`singular_values` must be at least 0, got singular_values\[0\] = nan",
        ),
        (torch.tensor([1j]), TypeError, "real numbers, got torch.complex64"),
        ([1.0, 2.0], TypeError, "a tensor of real numbers, got list"),
    ],
)
def test_what_is_no_spectrum_is_named(
    measure: Callable[[Tensor], Tensor], values: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        measure(values)


@pytest.mark.parametrize("p", [0.0, -1.0, math.inf, math.nan])
def test_a_power_out_of_range_is_named(p: float) -> None:
    with pytest.raises(ValueError, match=r"`p` must be (above 0|finite), got"):
        schatten_norm(tensor([1.0]), p)
