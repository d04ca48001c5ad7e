"""observed_product and completion_loss against the oracle, on every instruction set and device."""

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
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dims", [(5, 7), (6, 3, 8), (5, 4, 3, 6), (4, 3, 2, 5, 3, 2, 4)])
def test_first_and_second_derivatives_agree_with_finite_differences(
    dims: tuple[int, ...], weighted: bool, bias: bool
) -> None:
    problem = make_problem(dims, weighted=weighted, bias=bias)
    observations, depth = problem.observations(), len(problem.factors)

    def split(*parameters: Tensor) -> dict[str, object]:
        biases = parameters[depth:] if bias else (None, None)
        return {"factors": parameters[:depth], "row_bias": biases[0], "column_bias": biases[1]}

    def loss(*parameters: Tensor) -> Tensor:
        return dmf_fast.completion_loss(observations=observations, **split(*parameters))

    def product(*parameters: Tensor) -> Tensor:
        return dmf_fast.observed_product(observations=observations, **split(*parameters))

    for function in (loss, product):
        assert torch.autograd.gradcheck(function, problem.parameters())
        assert torch.autograd.gradgradcheck(function, problem.parameters())


@on_every_device
def test_gradients_scale_with_what_the_loss_is_multiplied_by_and_survive_a_retained_graph() -> None:
    problem = make_problem((20, 6, 30))
    factors = problem.factors
    loss = dmf_fast.completion_loss(factors, problem.observations())
    alone = torch.autograd.grad(loss, factors, retain_graph=True)
    tripled = torch.autograd.grad(3 * loss, factors, retain_graph=True)
    loss.backward(retain_graph=True)
    for factor in factors:
        assert factor.grad is not None
        factor.grad.mul_(2)
    loss.backward()
    for factor, once, thrice in zip(factors, alone, tripled, strict=True):
        torch.testing.assert_close(thrice, 3 * once)
        torch.testing.assert_close(factor.grad, 3 * once)


@on_every_device
def test_only_the_factors_that_require_gradients_get_them() -> None:
    problem = make_problem((20, 6, 5, 30))
    frozen = [problem.factors[0].detach(), problem.factors[1], problem.factors[2].detach()]
    dmf_fast.completion_loss(frozen, problem.observations()).backward()
    (expected,) = torch.autograd.grad(problem.reference_loss("mean"), [problem.factors[1]])
    assert_close(problem.factors[1].grad, expected, 1e-12)
    assert frozen[0].grad is None
    assert frozen[2].grad is None


@on_every_device
def test_without_gradients_the_loss_is_the_same() -> None:
    problem = make_problem((200, 20, 300), weighted=True)
    with torch.no_grad():
        loss = dmf_fast.completion_loss(problem.factors, problem.observations())
    assert not loss.requires_grad
    assert_close(loss, problem.reference_loss("mean").detach(), 1e-12)


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


@on_every_device
@pytest.mark.parametrize("pattern", ["skewed", "full"])
def test_a_layout_that_is_first_needed_inside_a_transform_serves_outside_it(pattern: str) -> None:
    problem = make_problem((9, 4, 11), pattern=pattern, weighted=True)
    observations = problem.observations()
    factors = [factor.detach() for factor in problem.factors]
    gradients = torch.func.grad(lambda chain: dmf_fast.completion_loss(chain, observations))(factors)
    loss = dmf_fast.completion_loss(problem.factors, observations)
    expected = torch.autograd.grad(problem.reference_loss("mean"), problem.factors)
    for ours, outside, theirs in zip(
        gradients, torch.autograd.grad(loss, problem.factors), expected, strict=True
    ):
        assert_close(ours, theirs, 1e-12)
        assert_close(outside, theirs, 1e-12)


@on_every_device
@pytest.mark.parametrize("pattern", ["skewed", "full"])
def test_forward_mode_differentiation_is_refused_and_never_silently_zero(pattern: str) -> None:
    problem = make_problem((9, 4, 11), pattern=pattern)
    observations = problem.observations()
    start = problem.factors[0].detach()
    for function in (dmf_fast.completion_loss, dmf_fast.observed_product):
        with pytest.raises(RuntimeError, match="forward mode AD"):
            torch.func.jvp(
                lambda factor, function=function: function(
                    [factor, problem.factors[1].detach()], observations
                ),
                (start,),
                (torch.ones_like(start),),
            )


@on_every_device
def test_a_layout_that_is_first_needed_in_inference_mode_serves_training() -> None:
    problem = make_problem((9, 4, 11))
    observations = problem.observations()
    with torch.inference_mode():
        dmf_fast.completion_loss(problem.factors, observations)
    dmf_fast.completion_loss(problem.factors, observations).backward()
    expected = torch.autograd.grad(problem.reference_loss("mean"), problem.factors)
    for factor, theirs in zip(problem.factors, expected, strict=True):
        assert_close(factor.grad, theirs, 1e-12)


@on_every_device
@pytest.mark.parametrize("dims", [(30, 8, 6, 40), (30, 8, 40), (30, 40)])
def test_under_autocast_products_of_the_chain_are_narrow_and_the_sweep_is_not(
    dims: tuple[int, ...], device: str, plan: str
) -> None:
    problem = make_problem(dims, bias=True, weighted=True, dtype=torch.float32)
    observations = problem.observations()

    def answers() -> list[Tensor]:
        loss = dmf_fast.completion_loss(problem.factors, observations, **problem.biases())
        product = dmf_fast.observed_product(problem.factors, observations, **problem.biases())
        return [loss, product, *torch.autograd.grad(loss, problem.parameters())]

    with torch.autocast(device, dtype=torch.bfloat16):
        got = answers()
    assert all(one.dtype == torch.float32 for one in got)
    for one, other in zip(got, answers(), strict=True):
        if plan == "split" and len(dims) == 3:  # both sides of the sweep are factors: nothing is multiplied
            assert torch.equal(one, other)
        else:
            assert_close(one, other.double(), 2e-2)


class TestErrors:
    """Every mistake ends in a sentence that names the argument."""

    observations = Observations([0, 1], [1, 2], [1.0, 2.0], (2, 3))
    good = (torch.ones(4, 3), torch.ones(2, 4))

    def test_a_single_tensor_is_not_a_chain(self) -> None:
        with pytest.raises(TypeError, match="`factors` must be a sequence"):
            dmf_fast.completion_loss(torch.ones(2, 3), self.observations)

    def test_no_factors(self) -> None:
        with pytest.raises(ValueError, match="`factors` must hold at least one matrix"):
            dmf_fast.completion_loss([], self.observations)

    def test_a_factor_that_is_no_tensor(self) -> None:
        with pytest.raises(TypeError, match=r"`factors\[1\]` must be a torch.Tensor, got list"):
            dmf_fast.completion_loss([self.good[0], [[1.0]]], self.observations)

    def test_a_factor_that_is_no_matrix(self) -> None:
        with pytest.raises(ValueError, match=r"`factors\[0\]` must be a matrix, got shape \(3,\)"):
            dmf_fast.completion_loss([torch.ones(3)], self.observations)

    def test_factors_in_the_wrong_order(self) -> None:
        with pytest.raises(ValueError, match=r"W_N leftmost"):
            dmf_fast.completion_loss(self.good[::-1], Observations([0], [0], [1.0], (3, 3)))

    def test_factors_of_another_shape_than_the_observations(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"product of `factors` must have the shape of `observations`, \(2, 3\), got \(5, 3\)",
        ):
            dmf_fast.completion_loss([torch.ones(4, 3), torch.ones(5, 4)], self.observations)

    def test_a_hidden_width_of_zero(self) -> None:
        with pytest.raises(ValueError, match="at least one row"):
            dmf_fast.completion_loss([torch.ones(0, 3), torch.ones(2, 0)], self.observations)

    def test_factors_of_another_dtype(self) -> None:
        with pytest.raises(
            TypeError,
            match=r"`factors\[0\]` must have the dtype .*, got torch.float64; use observations.to\(dtype",
        ):
            dmf_fast.completion_loss([factor.double() for factor in self.good], self.observations)

    def test_factors_on_another_device(self) -> None:
        with pytest.raises(
            ValueError, match=r"`factors\[0\]` must be on the device of `observations`, cpu, got meta"
        ):
            dmf_fast.completion_loss([factor.to("meta") for factor in self.good], self.observations)

    def test_a_device_without_kernels(self) -> None:
        elsewhere = [factor.to("meta") for factor in self.good]
        with pytest.raises(
            ValueError,
            match=r"`observations` must be .*, got meta: only cpu and cuda have kernels",
        ):
            dmf_fast.completion_loss(elsewhere, self.observations.to("meta"))

    def test_a_bias_of_the_wrong_length(self) -> None:
        with pytest.raises(ValueError, match=r"`row_bias` must have shape \(2,\), got \(3,\)"):
            dmf_fast.completion_loss(self.good, self.observations, row_bias=torch.ones(3))
        with pytest.raises(ValueError, match=r"`column_bias` must have shape \(3,\), got \(2,\)"):
            dmf_fast.observed_product(self.good, self.observations, column_bias=torch.ones(2))

    def test_an_unknown_reduction(self) -> None:
        with pytest.raises(ValueError, match=r"`reduction` must be .*, got 'none'"):
            dmf_fast.completion_loss(self.good, self.observations, "none")

    def test_something_else_than_observations(self) -> None:
        with pytest.raises(TypeError, match=r"`observations` must be dmf_fast.Observations, got Tensor"):
            dmf_fast.completion_loss(self.good, torch.ones(2, 3))

    def test_the_mean_of_nothing(self) -> None:
        empty = Observations([], [], [], (2, 3), dtype=torch.float32)
        assert float(dmf_fast.completion_loss(self.good, empty, "sum")) == 0.0
        with pytest.raises(
            ValueError, match="`reduction` must be 'sum' if observations are empty, got 'mean'"
        ):
            dmf_fast.completion_loss(self.good, empty)

    def test_the_mean_with_weights_of_zero(self) -> None:
        weightless = Observations([0], [0], [1.0], (2, 3), weights=[0.0])
        with pytest.raises(ValueError, match="all weights are zero"):
            dmf_fast.completion_loss(self.good, weightless)


@on_every_device
@pytest.mark.parametrize("pattern", ["skewed", "full"])
def test_vmap_is_refused_in_a_sentence_and_a_hessian_needs_none(pattern: str) -> None:
    problem = make_problem((3, 2, 4), pattern=pattern)
    observations = problem.observations()
    first, second = (factor.detach() for factor in problem.factors)

    def loss(factor: torch.Tensor) -> torch.Tensor:
        return dmf_fast.completion_loss([factor, second], observations)

    for batched in (torch.vmap(loss), torch.vmap(torch.func.grad(loss))):
        with pytest.raises(NotImplementedError, match=r"do not support torch.vmap: .*functional.hessian"):
            batched(torch.stack([first, first]))
    hessian = torch.autograd.functional.hessian(loss, first).reshape(first.numel(), -1)
    assert_close(hessian, hessian.T, 1e-9)
    assert hessian.count_nonzero() > 0
