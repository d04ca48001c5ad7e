"""observed_product and completion_loss compared with the oracle, on every instruction set and device."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import dmf_fast
from dmf_fast import Observations, reference
from tests.problems import Problem, make_problem, problems

pytestmark = pytest.mark.usefixtures("plan")
on_every_device = pytest.mark.usefixtures("device")

# Largest error relative to the largest entry of the expected result.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    if expected.numel() == 0:
        return
    expected = expected.detach()
    scale = float(expected.abs().max()) or 1.0
    assert float((actual.detach().double() - expected).abs().max()) <= tolerance * scale


def check_against_reference(problem: Problem, dtype: torch.dtype) -> None:
    """Compare results and gradients in `dtype` with the oracle's in float64, from the same numbers."""
    rounded = problem.to(dtype)
    exact = rounded.to(torch.float64)
    tolerance = TOLERANCE[dtype]
    observations = rounded.observations()
    product = dmf_fast.observed_product(rounded.factors, observations, **rounded.biases())
    assert product.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected_product = exact.reference_product()
    assert_close(product, expected_product, tolerance * amplification(exact, expected_product))
    coefficients = torch.randn(product.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients = coefficients.to(product.device)
    compare_gradients(
        product @ coefficients.to(product.dtype),
        exact.reference_product() @ coefficients.to(product.dtype).double(),
        rounded,
        exact,
        tolerance,
    )
    tolerance *= amplification(exact, expected_product - exact.values)
    reductions = ("sum", "mean") if problem.values.numel() else ("sum",)
    for reduction in reductions:
        loss = dmf_fast.completion_loss(rounded.factors, observations, reduction, **rounded.biases())
        expected = exact.reference_loss(reduction)
        assert_close(loss, expected, tolerance)
        compare_gradients(loss, expected, rounded, exact, tolerance)


def magnitude(problem: Problem) -> float:
    """What sums may cancel from: the largest ‖row of A‖·‖column of B‖ (Cauchy–Schwarz), plus the biases."""
    if problem.values.numel() == 0:
        return 1.0
    chain = [factor.detach() for factor in problem.factors]
    if len(chain) == 1:
        largest = chain[0].abs().max()
    else:
        a, b = reference.chain_product(chain[1:]), chain[0]
        largest = (a.norm(dim=1)[problem.rows] * b.norm(dim=0)[problem.columns]).max()
    biases = [bias.detach().abs().max() for bias in problem.biases().values() if bias is not None]
    return float(largest + sum(biases))


def amplification(problem: Problem, result: Tensor) -> float:
    """How much of a relative error in the terms of `result` remains after cancellation; at least 1."""
    if result.numel() == 0:
        return 1.0
    return max(1.0, magnitude(problem) / float(result.detach().abs().max()))


def compare_gradients(
    actual: Tensor, expected: Tensor, rounded: Problem, exact: Problem, tolerance: float
) -> None:
    ours = torch.autograd.grad(actual, rounded.parameters())
    theirs = torch.autograd.grad(expected, exact.parameters())
    for gradient, oracle in zip(ours, theirs, strict=True):
        assert gradient.dtype == rounded.values.dtype
        assert_close(gradient, oracle, tolerance)


@given(problem=problems())
@settings(max_examples=120)
def test_float64_agrees_with_the_oracle_to_1e_12(problem: Problem, backend: str) -> None:
    check_against_reference(problem, torch.float64)


@given(problem=problems())
@settings(max_examples=120)
def test_float32_agrees_with_the_oracle_to_1e_5(problem: Problem, backend: str) -> None:
    check_against_reference(problem, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@given(seed=st.integers(0, 1000), h=st.integers(1, 90), weighted=st.booleans())
@settings(max_examples=25)
def test_16_bit_factors_agree_with_the_oracle_on_the_rounded_numbers(
    seed: int, h: int, weighted: bool, dtype: torch.dtype, backend: str
) -> None:
    problem = make_problem((31, h, 47), pattern="skewed", weighted=weighted, seed=seed)
    check_against_reference(problem, dtype)


@pytest.mark.parametrize("h", [1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 255, 300, 1024])
def test_every_width_of_the_split_agrees_with_the_oracle(h: int, backend: str) -> None:
    for dtype in (torch.float64, torch.float32):
        check_against_reference(make_problem((90, h, 110), pattern="skewed", weighted=True), dtype)


def test_a_matrix_of_many_tiles_agrees_with_the_oracle(backend: str, threads: int) -> None:
    problem = make_problem((1700, 24, 2100), pattern="skewed", density=0.05)
    check_against_reference(problem, torch.float32)


@on_every_device
def test_entries_come_back_in_the_order_in_which_they_were_given() -> None:
    problem = make_problem((300, 5, 400))
    product = dmf_fast.observed_product(problem.factors, problem.observations())
    backwards = Observations(
        problem.rows.flip(0), problem.columns.flip(0), problem.values.flip(0), problem.shape
    )
    assert torch.equal(dmf_fast.observed_product(problem.factors, backwards).flip(0), product)


@on_every_device
def test_strided_and_transposed_factors_give_the_same_result() -> None:
    problem = make_problem((60, 12, 8, 50))
    strided = []
    for factor in problem.factors:
        wide = factor.new_zeros(factor.shape[1] * 2, factor.shape[0])
        wide[::2] = factor.detach().T
        strided.append(wide[::2].T.requires_grad_())
        assert not strided[-1].is_contiguous()
    observations = problem.observations()
    loss = dmf_fast.completion_loss(strided, observations)
    assert_close(loss, problem.reference_loss("mean"), 1e-12)
    expected = torch.autograd.grad(problem.reference_loss("mean"), problem.factors)
    for ours, theirs in zip(torch.autograd.grad(loss, strided), expected, strict=True):
        assert_close(ours, theirs, 1e-12)


@on_every_device
def test_int32_and_int64_indices_give_the_same_result() -> None:
    problem = make_problem((80, 9, 70))
    narrow = Observations(problem.rows.int(), problem.columns.int(), problem.values, problem.shape)
    first = dmf_fast.observed_product(problem.factors, problem.observations())
    assert torch.equal(dmf_fast.observed_product(problem.factors, narrow), first)


@on_every_device
def test_a_matrix_with_more_places_than_32_bits_can_count(device: str) -> None:
    shape = (3_000_000, 2_000_000)
    rows = torch.tensor([0, 2_999_999, 1_500_000, 2_999_999])
    columns = torch.tensor([0, 1_999_999, 1_000_000, 0])
    observations = Observations(rows, columns, torch.ones(4), shape, device=device)
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(2, shape[1], generator=generator), torch.randn(shape[0], 2, generator=generator))
    factors = [factor.to(device) for factor in drawn]
    expected = (factors[1][rows].double() * factors[0].T[columns].double()).sum(1)
    assert_close(dmf_fast.observed_product(factors, observations), expected, 1e-6)
