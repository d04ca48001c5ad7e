"""Derivatives of completion_loss and observed_product, and torch's modes and transforms of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import dmf_fast
from tests.assertions import assert_close
from tests.problems import make_problem

pytestmark = pytest.mark.usefixtures("plan")
on_every_device = pytest.mark.usefixtures("device")


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
    assert problem.factors[1].grad is not None
    assert_close([problem.factors[1].grad], [expected], 1e-12)
    assert frozen[0].grad is None
    assert frozen[2].grad is None


@on_every_device
def test_without_gradients_the_loss_is_the_same() -> None:
    problem = make_problem((200, 20, 300), weighted=True)
    with torch.no_grad():
        loss = dmf_fast.completion_loss(problem.factors, problem.observations())
    assert not loss.requires_grad
    assert_close([loss], [problem.reference_loss("mean")], 1e-12)


@on_every_device
@pytest.mark.parametrize("pattern", ["skewed", "full"])
def test_a_layout_that_is_first_needed_inside_a_transform_serves_outside_it(pattern: str) -> None:
    problem = make_problem((9, 4, 11), pattern=pattern, weighted=True)
    observations = problem.observations()
    factors = [factor.detach() for factor in problem.factors]
    gradients = torch.func.grad(lambda chain: dmf_fast.completion_loss(chain, observations))(factors)
    loss = dmf_fast.completion_loss(problem.factors, observations)
    expected = torch.autograd.grad(problem.reference_loss("mean"), problem.factors)
    assert_close(gradients, expected, 1e-12)
    assert_close(torch.autograd.grad(loss, problem.factors), expected, 1e-12)


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
    assert_close([factor.grad for factor in problem.factors if factor.grad is not None], expected, 1e-12)


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
            assert_close([one], [other], 2e-2)


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
    assert_close([hessian], [hessian.T], 1e-9)
    assert hessian.count_nonzero() > 0
