"""Gradient flow against closed forms, against what it conserves, and against gradient descent."""

from __future__ import annotations

import importlib
import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import Tensor

from dmf_fast import Observations, reference
from dmf_fast.training.gradient_flow import Method, gradient_flow
from dmf_fast.training.recording import Recording
from tests.problems import Problem, make_problem

DIMS = (7, 5, 6, 9)
TIMES = (0.0, 0.5, 2.0, 5.0)


def matrix(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def everywhere(values: Tensor, weights: Tensor | None = None) -> Observations:
    rows, columns = torch.ones(values.shape).nonzero(as_tuple=True)
    return Observations(
        rows,
        columns,
        values.flatten(),
        tuple(values.shape),
        weights=None if weights is None else weights.flatten(),
    )


def some_problem() -> Problem:
    return make_problem(DIMS, density=0.5, weighted=True)


def gaps(factors: list[Tensor]) -> list[Tensor]:
    """What gradient flow conserves."""
    return [outer.T @ outer - inner @ inner.T for inner, outer in pairwise(factors)]


def drift(factors: list[Tensor], start: list[Tensor]) -> float:
    """How far ``gaps`` have moved."""
    pairs = zip(gaps(factors), gaps(start), strict=True)
    return max(float((now - then).abs().max()) for now, then in pairs)


def distance(factors: list[Tensor], others: list[Tensor]) -> float:
    return math.sqrt(
        sum(float((one - other).square().sum()) for one, other in zip(factors, others, strict=True))
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_single_factor_that_is_observed_everywhere_decays_exponentially(
    reduction: Any, weighted: bool
) -> None:
    start, values = matrix(4, 3, 0), matrix(4, 3, 1)
    weights = matrix(4, 3, 2).abs() + 0.1 if weighted else torch.ones(4, 3, dtype=torch.float64)
    times = [0.0, 0.3, 1.0, 4.0]
    train = everywhere(values, weights if weighted else None)
    flow = gradient_flow([start], train, times, reduction=reduction)
    rates = weights / (weights.sum() if reduction == "mean" else 1.0)
    for time, (factor,) in zip(times, flow.factors, strict=True):
        expected = values + (start - values) * torch.exp(-2 * rates * time)
        torch.testing.assert_close(factor, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", get_args(Method))
def test_two_equal_numbers_follow_the_logistic_curve(method: Method) -> None:
    target, first = 1.5, 0.01
    number = torch.tensor([[math.sqrt(first)]], dtype=torch.float64)
    times = np.linspace(0, 3, 7)
    train = everywhere(torch.tensor([[target]], dtype=torch.float64))
    flow = gradient_flow([number, number], train, times, method=method, rtol=1e-6, atol=1e-9)
    products = [float(outer @ inner) for inner, outer in flow.factors]
    expected = target / (1 + (target / first - 1) * np.exp(-4 * target * times))
    np.testing.assert_allclose(products, expected, rtol=1e-4)


def test_the_gaps_between_neighbours_are_conserved_to_the_tolerance() -> None:
    problem = some_problem()
    start = [factor.detach() for factor in problem.factors]
    train = problem.observations()
    exact = gradient_flow(start, train, TIMES)
    rough = gradient_flow(start, train, TIMES, rtol=1e-5, atol=1e-7, method="RK45")
    assert distance(exact.factors[-1], start) > 0.5
    assert max(drift(factors, start) for factors in exact.factors) < 1e-9
    assert 1e-9 < max(drift(factors, start) for factors in rough.factors) < 1e-3


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient_descent_approaches_it_linearly_as_its_steps_shrink(reduction: Any) -> None:
    problem = some_problem()
    end = 2.0 if reduction == "mean" else 0.05
    start = [factor.detach() for factor in problem.factors]
    flow = gradient_flow(start, problem.observations(), [end], reduction=reduction)

    def descend(steps: int) -> list[Tensor]:
        factors = start
        for _ in range(steps):
            leaves = [factor.detach().requires_grad_() for factor in factors]
            loss = reference.completion_loss(
                leaves, problem.rows, problem.columns, problem.values, problem.weights, reduction
            )
            gradients = torch.autograd.grad(loss, leaves)
            factors = [f - end / steps * g for f, g in zip(factors, gradients, strict=True)]
        return factors

    errors = [distance(descend(steps), flow.factors[0]) for steps in (100, 200, 400)]
    assert errors[2] < 0.01
    assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([2, 2], rel=0.05)


def test_the_loss_never_rises_and_the_gradient_norm_is_its_rate() -> None:
    problem = some_problem()
    times = np.linspace(0, 10, 101)
    history = gradient_flow(problem.factors, problem.observations(), times).history
    losses = np.array(history["train_loss"])
    assert (np.diff(losses) < 0).all()
    # d loss / dt = −‖∇ loss‖²
    squares = np.array(history["gradient_norm"]) ** 2
    falls = scipy.integrate.cumulative_simpson(squares, x=times)
    np.testing.assert_allclose(losses[0] - losses[1:], falls, rtol=1e-2)


def test_the_sum_flows_as_the_mean_does_in_a_longer_time_and_records_the_mean() -> None:
    problem = some_problem()
    train = problem.observations()
    mean = gradient_flow(problem.factors, train, [3.0 * train.total_weight])
    total = gradient_flow(problem.factors, train, [3.0], reduction="sum")
    assert distance(mean.factors[0], total.factors[0]) < 1e-8
    assert mean.history["train_loss"][0] == pytest.approx(total.history["train_loss"][0])


def test_more_times_change_nothing_at_the_others() -> None:
    problem = some_problem()
    train = problem.observations()
    alone = gradient_flow(problem.factors, train, [5.0]).factors[0]
    among = gradient_flow(problem.factors, train, np.linspace(0, 5, 21)).factors[-1]
    assert distance(alone, among) < 1e-8


def test_factors_at_time_zero_are_those_given_and_those_stay_as_they_are() -> None:
    problem = some_problem()
    given = [factor.detach().clone() for factor in problem.factors]
    flow = gradient_flow(problem.factors, problem.observations(), torch.tensor([0.0, 1.0]))
    for place, factor in enumerate(given):
        assert torch.equal(problem.factors[place], factor)
        assert torch.equal(flow.factors[0][place], factor)
        assert not flow.factors[0][place].requires_grad
        flow.factors[0][place].zero_()
        assert torch.equal(problem.factors[place], factor)
    assert flow.times == (0.0, 1.0)


def test_factors_of_any_strides_flow_alike() -> None:
    problem = some_problem()
    strided = [factor.detach().T.contiguous().T for factor in problem.factors]
    one, other = (
        gradient_flow(factors, problem.observations(), [1.0]).factors[0]
        for factors in (problem.factors, strided)
    )
    assert distance(one, other) == 0


def test_a_row_measures_the_factors_of_its_time() -> None:
    problem = some_problem()
    train, truth = problem.observations(), matrix(9, 7, 4)
    recording = Recording(singular_values=2, spectrum=True, balancedness=True)
    flow = gradient_flow(
        problem.factors, train, TIMES, recording=recording, validation=train, test=train, truth=truth
    )
    assert flow.history.table.column_names[:3] == ["time", "seconds", "train_loss"]
    assert flow.history["time"] == list(TIMES)
    for row, factors in zip(flow.history.table.to_pylist(), flow.factors, strict=True):
        product = reference.chain_product(factors).numpy()
        squares = (product[problem.rows, problem.columns] - problem.values.numpy()) ** 2
        loss = np.average(squares, weights=problem.weights.numpy())
        assert row["train_loss"] == pytest.approx(loss)
        assert row["validation_rmse"] == row["test_rmse"] == pytest.approx(math.sqrt(loss))
        assert row["reconstruction_mse"] == pytest.approx(((product - truth.numpy()) ** 2).mean())
        assert row["nuclear_norm"] == pytest.approx(np.linalg.norm(product, "nuc"))
        assert row["singular_value_2"] == pytest.approx(np.linalg.svd(product, compute_uv=False)[1])
        assert row["balancedness"] == pytest.approx(max(float(gap.norm()) for gap in gaps(factors)))
    seconds = flow.history["seconds"]
    assert seconds == sorted(seconds)


def test_gradient_evaluations_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("dmf_fast.training.gradient_flow")
    calls = []
    loss = module.completion_loss
    monkeypatch.setattr(module, "completion_loss", lambda *given: calls.append(1) or loss(*given))
    problem = some_problem()
    assert gradient_flow(problem.factors, problem.observations(), [0.0, 1.0]).gradient_evaluations == len(
        calls
    )


def test_a_failed_integration_reports_scipys_message(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(
        success=False, message="Required step size is less than spacing between numbers."
    )
    monkeypatch.setattr(scipy.integrate, "solve_ivp", lambda *_, **__: failed)
    problem = some_problem()
    with pytest.raises(RuntimeError, match=r"from time 0.0 to 1.0: Required step size is less than"):
        gradient_flow(problem.factors, problem.observations(), [1.0])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"times": []}, ValueError, "`times` must hold at least one"),
        ({"times": [-1.0]}, ValueError, r"`times` must be finite and at least 0, got times\[0\] = -1.0"),
        (
            {"times": [0.0, math.inf]},
            ValueError,
            r"`times` must be finite and at least 0, got times\[1\] = inf",
        ),
        (
            {"times": [0.0, 2.0, 2.0]},
            ValueError,
            r"`times` must increase, got times\[2\] = 2.0 after times\[1\] = 2.0",
        ),
        ({"times": 3.0}, TypeError, "`times` must be a sequence of numbers, got 3.0"),
        ({"times": ["soon"]}, TypeError, "`times` must be a sequence of numbers"),
        ({"method": "Euler"}, ValueError, "`method` must be one of DOP853, .*, got 'Euler'"),
        ({"rtol": 1e-15}, ValueError, "`rtol` must be at least 2.3e-14, got 1e-15"),
        ({"rtol": math.nan}, ValueError, "rtol"),
        ({"atol": 0.0}, ValueError, "`atol` must be above 0, got 0.0"),
        ({"reduction": "none"}, ValueError, "reduction"),
        ({"factors": []}, ValueError, "`factors` must hold at least one"),
        (
            {"factors": [torch.ones(9, 7)]},
            TypeError,
            r"`factors\[0\]` must be float64, .*, got torch.float32",
        ),
        (
            {"factors": [matrix(7, 9, 0)]},
            ValueError,
            r"product of `factors` must have the shape of .*, got \(7, 9\)",
        ),
        ({"factors": [1e200 * matrix(9, 7, 0)]}, ValueError, "finite loss and gradient"),
        ({"train": Observations([], [], [], (9, 7), dtype=torch.float64)}, ValueError, "`train` must hold"),
        (
            {"train": Observations([0], [0], [1.0], (9, 7))},
            TypeError,
            "dtype of `observations`, torch.float32, got",
        ),
        ({"truth": torch.ones(7, 9)}, ValueError, "`truth` must have the shape"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type[Exception], words: str) -> None:
    problem = some_problem()
    arguments: dict[str, Any] = {
        "factors": problem.factors,
        "train": problem.observations(),
        "times": [1.0],
    }
    with pytest.raises(error, match=words):
        gradient_flow(**arguments | change)
