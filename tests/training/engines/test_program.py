"""A program, taken step by step in plain torch, gives the gradients of the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dmf_fast.ops.planner import plan_descent
from dmf_fast.training.engines.program import DescentProgram
from tests.problems import Problem, make_problem, problems


def gradients_by(program: DescentProgram, problem: Problem) -> list[Tensor]:
    """Do what ``csrc/kernels/descent/program.h`` says; every gradient is set once, and never added to."""
    factors = [factor.detach() for factor in problem.factors]
    values = [factor.T if program.keeps_transposed(place) else factor for place, factor in enumerate(factors)]
    for left, right, result in program.products:
        assert result == len(values)
        values.append(values[left] @ values[right])
    assert [tuple(value.shape) for value in values] == program.matrices

    a, b = program.a, program.b_transposed
    product = values[a] if b is None else values[a] @ values[b].T
    at = (problem.rows, problem.columns)
    weights = torch.ones_like(problem.values) if problem.weights is None else problem.weights
    residuals = torch.zeros_like(product)
    residuals[at] = 2 * weights * (product[at] - problem.values)
    gradients = {a: residuals} if b is None else {a: residuals @ values[b], b: residuals.T @ values[a]}

    for left, right, result in reversed(program.products):
        assert not {left, right} & gradients.keys()
        gradients[left] = gradients[result] @ values[right].T
        gradients[right] = values[left].T @ gradients[result]
    return [
        gradients[place].T if program.keeps_transposed(place) else gradients[place]
        for place in range(program.factors)
    ]


@settings(max_examples=150)
@given(problem=problems(largest=30, largest_hidden=20), nnz=st.integers(0, 2000))
@pytest.mark.usefixtures("descent_plan")
def test_the_products_forward_and_in_reverse_are_the_gradients(problem: Problem, nnz: int) -> None:
    dims = (problem.shape[1], *(factor.shape[0] for factor in problem.factors))
    gradients = gradients_by(DescentProgram(plan_descent(dims, nnz, "cpu")), problem)
    unbiased = Problem(**{**vars(problem), "row_bias": None, "column_bias": None})
    expected = torch.autograd.grad(unbiased.reference_loss("sum"), unbiased.factors)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dims", [(3, 4), (3, 4, 5), (9, 2, 8, 7), (5, 6, 7, 3, 8, 4, 9)])
def test_the_plans_split_the_chain_or_form_the_matrix(dims: tuple[int, ...], descent_plan: str) -> None:
    program = DescentProgram(plan_descent(dims, 10, "cpu"))
    is_split = descent_plan == "split" and len(dims) > 2
    assert (program.b_transposed is not None) == is_split
    assert program.matrices[program.a][0] == dims[-1]
    last = (
        program.matrices[program.a][1]
        if program.b_transposed is None
        else program.matrices[program.b_transposed][0]
    )
    assert last == dims[0]


def test_one_factor_is_its_own_product() -> None:
    program = DescentProgram(plan_descent((3, 4), 10, "cpu"))
    assert (program.a, program.b_transposed, program.products) == (0, None, [])
    problem = make_problem((3, 4))
    (gradient,) = gradients_by(program, problem)
    torch.testing.assert_close(gradient, *torch.autograd.grad(problem.reference_loss("sum"), problem.factors))
