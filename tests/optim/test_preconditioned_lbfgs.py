"""Preconditioned L-BFGS: its formulas, its steps, and options that it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.ops.statistics import degrees
from dmf_fast.optim import OptimizerSpec, PreconditionedLBFGS, loss_curvature
from dmf_fast.training import FitOptions, fit
from tests.optim.lbfgs import DECAY, model_of, spec_of, trained
from tests.problems import make_problem


def sizes_of(model: DeepMatrixFactorization) -> Tensor:
    first, last = (factor.detach() for factor in model.factors)
    return (first.square().sum(1) + last.square().sum(0)) / 2


def weight_at(step: int) -> float:
    weight: float = DECAY["weight_decay"] * DECAY["decay_rate"] ** max(0, step - DECAY["decay_after"])
    return weight


def objective(model: DeepMatrixFactorization, train: Observations, step: int) -> float:
    """The loss and its decays from their definition: the concave one as an integral of its slope."""
    weight = weight_at(step)
    concavity, knee = DECAY["concavity"], DECAY["knee"]
    penalty = 0.0
    for size in sizes_of(model).tolist():
        points = torch.linspace(0, size, 20001, dtype=torch.float64)
        penalty += torch.trapezoid(weight * (1 + points / knee) ** -concavity, points).item()
    squares = sum(bias.detach().square().sum().item() for bias in model.biases)
    return model.loss(train).item() + penalty + 0.05 / 2 * squares


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def diagonal_by_hand(model: DeepMatrixFactorization, train: Observations, step: int) -> Tensor:
    """The preconditioner of every number, in the order of `flat`, from sums over rows and columns."""
    (rows, columns), total = degrees(train), train.total_weight
    of_biases = flat([2 * rows / total + 0.05, 2 * columns / total + 0.05])
    rows, columns = (degree + len(model.factors[0]) / 2 for degree in (rows, columns))
    first, last = (factor.detach() for factor in model.factors)
    weight = weight_at(step)
    decay = weight * (1 + sizes_of(model) / DECAY["knee"]) ** -DECAY["concavity"]
    of_first = torch.outer((rows[:, None] * last.square()).sum(0), columns) * (2 / total**2) + decay[:, None]
    of_last = torch.outer(rows, (columns * first.square()).sum(1)) * (2 / total**2) + decay
    return torch.cat([flat([of_first, of_last]), of_biases])


class Probe:
    """The objective and its derivatives at any point, from their definitions."""

    def __init__(self, train: Observations) -> None:
        self.train, self.model = train, model_of(train)

    @torch.no_grad()
    def at(self, point: Tensor) -> DeepMatrixFactorization:
        parameters = self.model.parameter_list
        parts = point.split([parameter.numel() for parameter in parameters])
        for parameter, numbers in zip(parameters, parts, strict=True):
            parameter.copy_(numbers.view_as(parameter))
        return self.model

    def objective(self, point: Tensor, step: int) -> float:
        return objective(self.at(point), self.train, step)

    def gradient(self, point: Tensor, step: int) -> Tensor:
        model = self.at(point)
        own = torch.autograd.grad(model.loss(self.train), model.parameter_list)
        weight = weight_at(step)
        decay = weight * (1 + sizes_of(model) / DECAY["knee"]) ** -DECAY["concavity"]
        first, last = model.factors
        return flat(own) + flat([decay[:, None] * first, decay * last, *(0.05 * b for b in model.biases)])

    def inverse_hessian(self, point: Tensor, before: Tensor | None, step: int) -> Tensor:
        """The matrix of L-BFGS with a memory of one step, formed as a whole."""
        inverse = torch.diag(1 / diagonal_by_hand(self.at(point), self.train, step))
        if before is None:
            return inverse
        s, y = point - before, self.gradient(point, step) - self.gradient(before, step)
        if s @ y <= 1e-4 * (s.square() / inverse.diagonal()).sum():
            return inverse
        left = torch.eye(len(s), dtype=s.dtype) - torch.outer(s, y) / (s @ y)
        return left @ inverse @ left.T + torch.outer(s, s) / (s @ y)


def test_steps_go_along_the_direction_of_the_inverse_hessian_and_obey_armijo() -> None:
    train = make_problem((11, 14), density=0.5, weighted=True, seed=2).observations()
    model, probe = model_of(train), Probe(train)
    optimizer = spec_of(model, train).make(model.factors, model.biases)
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        model.zero_grad()
        loss = model.loss(train)
        loss.backward()
        return loss

    before: Tensor | None = None
    for step in range(25):
        point, calls = flat(model.parameter_list).clone(), 0
        optimizer.step(closure)
        moved = flat(model.parameter_list) - point
        gradient = probe.gradient(point, step)
        direction = -probe.inverse_hessian(point, before, step) @ gradient
        length = ((moved @ direction) / (direction @ direction)).item()
        torch.testing.assert_close(moved, length * direction, rtol=1e-7, atol=1e-10)
        if calls == 2:  # the first trial was accepted
            assert length == pytest.approx(0.5 if before is None else 1.0, rel=1e-6)
        else:
            assert length < (0.5 if before is None else 1.0)
        allowed = probe.objective(point, step) + 1e-4 * (gradient @ moved).item()
        assert probe.objective(point + moved, step) <= allowed + 1e-9
        before = point


def test_the_preconditioner_is_the_diagonal_of_gauss_newton_where_all_entries_are_observed() -> None:
    train = make_problem((60, 40), pattern="full", seed=1).observations()
    model = model_of(train, h=2, bias=False)
    factors = tuple(factor.detach().clone() for factor in model.factors)

    def residuals(first: Tensor, last: Tensor) -> Tensor:
        return (last @ first).flatten() * math.sqrt(2 / len(train))

    jacobian = torch.autograd.functional.jacobian(residuals, factors)
    expected = [one.square().sum(0) for one in jacobian]
    curvature, _ = loss_curvature(model, train)
    # Without the half of a width that it counts in addition, here one entry.
    columns, rows = (own * (count / (count + 1)) for own, count in zip(curvature, (60, 40), strict=True))
    optimizer = PreconditionedLBFGS(model.factors, curvature=[columns, rows])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model.loss(train)
        loss.backward()
        return loss

    gradient = flat(torch.autograd.grad(model.loss(train), list(model.factors)))
    optimizer.step(closure)
    directions = (flat(model.factors) - flat(factors)) * flat(expected) / gradient
    torch.testing.assert_close(directions, torch.full_like(directions, -0.5), rtol=1e-9, atol=0)


def test_a_concave_decay_spares_large_columns_and_drops_small_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(60, 2, generator=generator, dtype=torch.float64) for _ in range(2)]
    values = sides[0] @ torch.diag(torch.tensor([3.0, 0.3], dtype=torch.float64)) @ sides[1].T
    places = (torch.rand(60, 60, generator=generator) < 0.8).nonzero(as_tuple=True)
    train = Observations(*places, values[places], (60, 60))
    found = []
    for concavity in (0.0, 0.6):
        model = model_of(train, h=6, bias=False)
        options = {"weight_decay": 0.03, "decay_rate": 1.0, "concavity": concavity, "knee": 1.0}
        spec = spec_of(model, train, **options)
        fit(model, train, spec, FitOptions(steps=150))
        found.append(torch.linalg.svdvals(model.product())[:2])
    largest = torch.linalg.svdvals(values)[0]
    assert largest - found[1][0] < 0.5 * (largest - found[0][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "`lr` must be at least 0"),
        ({"weight_decay": -1.0}, "`weight_decay` must be at least 0"),
        ({"decay_rate": 0.0}, "`decay_rate` must be above 0 and at most 1"),
        ({"decay_rate": 1.5}, "`decay_rate` must be above 0 and at most 1"),
        ({"decay_after": -1}, "`decay_after` must be at least 0"),
        ({"concavity": 1.0}, "`concavity` must be at least 0 and below 1"),
        ({"knee": 0.0}, "`knee` must be above 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PreconditionedLBFGS([torch.zeros(2, 3, requires_grad=True)], **options)
    train = make_problem((9, 13), density=0.5, seed=5).observations()
    with pytest.raises(ValueError, match=next(iter(options))):
        trained(train, "native", 3, options=options)


def test_matrices_that_are_no_chain_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"must form a chain \[W_1, …, W_N\], got shapes \(2, 3\) and \(2, 3\)"
    ):
        PreconditionedLBFGS([torch.zeros(2, 3, requires_grad=True) for _ in range(2)])
    with pytest.raises(ValueError, match="`concavity` must be 0 unless there are 2 factors"):
        PreconditionedLBFGS([torch.zeros(2, 3, requires_grad=True)], concavity=0.5)


def test_a_curvature_of_another_length_is_refused() -> None:
    train = make_problem((9, 13), density=0.5, seed=5).observations()
    model = model_of(train)
    curvature, _ = loss_curvature(model, train)
    with pytest.raises(
        ValueError, match="`curvature` must have an element for each of the 4 parameters of the group, got 2"
    ):
        PreconditionedLBFGS(model.parameters(), curvature=curvature)
    spec = OptimizerSpec(PreconditionedLBFGS, {"curvature": curvature})
    with pytest.raises(
        ValueError, match="`curvature` must have an element for each of the 4 parameters of the group, got 2"
    ):
        fit(model, train, spec, FitOptions(steps=1))
