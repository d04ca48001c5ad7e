"""Preconditioned L-BFGS: its formulas, the same steps in native code, and what a run of it must hold."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from dmf_fast import Observations, info
from dmf_fast.completion import ScaledFactorization
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.ops.statistics import degrees
from dmf_fast.optim import OptimizerSpec, PreconditionedLBFGS, loss_curvature
from dmf_fast.training import FitOptions, FitResult, fit
from tests.assertions import assert_close, assert_equal
from tests.conftest import using_instruction_set
from tests.problems import make_problem

DECAY: dict[str, Any] = {
    "weight_decay": 0.02,
    "decay_rate": 0.95,
    "decay_after": 2,
    "concavity": 0.3,
    "knee": 0.5,
}


def model_of(
    train: Observations, h: int = 5, *, scaled: bool = False, bias: bool = True
) -> DeepMatrixFactorization:
    """A model of depth 2 that begins far from the entries, in its own or in scaled coordinates."""
    generator = torch.Generator().manual_seed(3)
    (m, n), dtype = train.shape, train.dtype

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    factors = [drawn(h, n) - 0.5, drawn(m, h) - 0.5]
    if scaled:
        scales = (1.0, 0.5) if bias else None
        return ScaledFactorization(factors, drawn(m) + 0.5, drawn(n) + 0.5, 1.5, scales)
    model = DeepMatrixFactorization((m, n), 2, h, bias=bias, seed=0, dtype=dtype)
    with torch.no_grad():
        for own, factor in zip(model.factors, factors, strict=True):
            own.copy_(factor)
    return model


def spec_of(model: DeepMatrixFactorization, train: Observations, **options: Any) -> OptimizerSpec:
    curvature, of_biases = loss_curvature(model, train)
    given = DECAY | options | {"curvature": curvature}
    return OptimizerSpec(PreconditionedLBFGS, given, {"weight_decay": 0.05, "curvature": of_biases})


def trained(
    train: Observations, engine: str, steps: int = 25, *, options: dict[str, Any] | None = None, **model: Any
) -> tuple[list[Tensor], FitResult]:
    own = model_of(train, **model)
    fitted = FitOptions(steps=steps, engine=engine)  # type: ignore[arg-type]
    result = fit(own, train, spec_of(own, train, **(options or {})), fitted)
    return [parameter.detach() for parameter in own.parameter_list], result


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


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """Entries of many shapes and patterns, weighted or not, and models of them."""
    sizes = st.integers(1, 40)
    return {
        "dims": (draw(sizes), draw(sizes)),
        "pattern": draw(st.sampled_from(["uniform", "skewed", "one row", "one column", "diagonal", "full"])),
        "weighted": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
        "h": draw(st.integers(1, 20)),
        "scaled": draw(st.booleans()),
        "bias": draw(st.booleans()),
    }


@pytest.mark.parametrize("instruction_set", info.available_instruction_sets())
@given(drawn=runs())
def test_native_steps_are_those_of_the_optimizer(instruction_set: str, drawn: dict[str, Any]) -> None:
    drawn = dict(drawn)
    model = {name: drawn.pop(name) for name in ("h", "scaled", "bias")}
    train = make_problem(drawn.pop("dims")[::-1], density=0.4, **drawn).observations()
    assume(train.total_weight > 0)
    with using_instruction_set(instruction_set):
        ours, result = trained(train, "native", 12, **model)
    theirs, _ = trained(train, "torch", 12, **model)
    assert result.engine == "native"
    assert_close(ours, theirs, 1e-6)  # a quotient of small differences amplifies rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_and_repetition_change_no_bit(dtype: torch.dtype) -> None:
    problem = make_problem((900, 1200), density=0.02, weighted=True, seed=4, dtype=dtype)
    train, before = problem.observations(), torch.get_num_threads()
    ends = []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        ends.append(trained(train, "native", 12, h=48, scaled=True)[0])
    torch.set_num_threads(before)
    for other in ends[1:]:
        assert_equal(other, ends[0])


def test_every_instruction_set_makes_the_same_steps_to_rounding() -> None:
    train = make_problem((60, 50), density=0.3, seed=4, dtype=torch.float32).observations()
    ends = []
    for name in info.available_instruction_sets():
        with using_instruction_set(name):
            ends.append(trained(train, "native", 8, h=21)[0])
    for other in ends[1:]:
        assert_close(other, ends[0], 1e-3)


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("bound", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, engine: str, bound: bool) -> None:
    train = make_problem((9, 13), density=0.5, weighted=True, seed=5).observations()

    def ended(steps: int, folder: Path | None) -> list[Tensor]:
        model = model_of(train)
        spec = spec_of(model, train)
        optimizer = spec.make(model.factors, model.biases) if bound else spec
        options = FitOptions(steps=steps, engine=engine)  # type: ignore[arg-type]
        fit(model, train, optimizer, options, checkpoint=folder, resume=folder is not None)
        return [parameter.detach() for parameter in model.parameter_list]

    whole = ended(17, None)
    for stop in (1, 2, 9):
        ended(stop, tmp_path / str(stop))
        assert_equal(ended(17, tmp_path / str(stop)), whole)


@pytest.mark.parametrize("engines", [("native", "torch"), ("torch", "native"), ("native", "native")])
def test_a_bound_optimizer_goes_from_engine_to_engine(engines: tuple[str, str]) -> None:
    train = make_problem((9, 13), density=0.5, seed=5).observations()
    model = model_of(train)
    optimizer = spec_of(model, train).make(model.factors, model.biases)
    for engine, steps in zip(engines, (6, 9), strict=True):
        fit(model, train, optimizer, FitOptions(steps=steps, engine=engine))  # type: ignore[arg-type]
    expected, _ = trained(train, "native", 15)
    assert_close([parameter.detach() for parameter in model.parameter_list], expected, 1e-7)


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


@pytest.mark.parametrize("dims", [(7, 9), (9, 5, 4, 8), (9, 5, 4, 6, 8)])
def test_chains_of_other_depths_are_fitted_too(dims: tuple[int, ...]) -> None:
    train = make_problem((dims[0], dims[-1]), density=0.5, seed=6).observations()
    depth, hidden = len(dims) - 1, list(dims[1:-1])
    model = DeepMatrixFactorization(train.shape, depth, hidden, 1.0, seed=1, dtype=torch.float64)
    before = model.loss(train).item()
    curvature, _ = loss_curvature(model, train)
    spec = OptimizerSpec(PreconditionedLBFGS, {"curvature": curvature, "weight_decay": 1e-4})
    result = fit(model, train, spec, FitOptions(steps=200))
    assert (result.engine, "two factors" in (result.not_native_because or "")) == ("torch", True)
    assert model.loss(train).item() < 0.05 * before


def test_rows_and_columns_without_entries_go_to_zero() -> None:
    train = Observations([0, 0, 2], [1, 3, 1], [1.0, 2.0, 3.0], (4, 5), dtype=torch.float64)
    for engine in ("native", "torch"):
        (first, last, rows, columns), _ = trained(train, engine, 200, options={"decay_rate": 1.0})
        for empty in (first[:, [0, 2, 4]], last[[1, 3]], rows[[1, 3]], columns[[0, 2, 4]]):
            assert empty.abs().max().item() < 0.1  # from 0.5


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


def test_a_loaded_state_continues_bitwise() -> None:
    train = make_problem((9, 13), density=0.5, seed=5).observations()
    model = model_of(train)
    optimizer = spec_of(model, train).make(model.factors, model.biases)
    fit(model, train, optimizer, FitOptions(steps=5, engine="torch"))
    twin = copy.deepcopy(model)
    loaded = spec_of(twin, train).make(twin.factors, twin.biases)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for own, rule in ((model, optimizer), (twin, loaded)):
        fit(own, train, rule, FitOptions(steps=7, engine="torch"))
    assert_equal(twin.parameter_list, model.parameter_list)


@pytest.mark.parametrize("h", [3, 5])
def test_the_order_of_factors_and_biases_in_groups_changes_nothing(h: int) -> None:
    train = make_problem((5, 13), density=0.7, seed=5).observations()
    ends = []
    for arranged in range(3):
        for engine in ("native", "torch"):
            model = model_of(train, h)
            curvature, (rows, columns) = loss_curvature(model, train)
            assert model.row_bias is not None
            assert model.column_bias is not None
            groups: list[dict[str, Any]] = [
                {"params": list(model.factors), "curvature": curvature},
                {"params": [model.row_bias], "curvature": [rows]},
                {"params": [model.column_bias], "curvature": [columns]},
            ]
            if arranged == 1:  # as `model.parameters()` has them: biases first
                groups = [{"params": list(model.parameters()), "curvature": [rows, columns, *curvature]}]
            if arranged == 2:
                groups = groups[::-1]
            optimizer = PreconditionedLBFGS(groups, **{**DECAY, "decay_rate": 1.0})
            for steps in (4, 5):  # the second goes on with the state of the first
                fit(model, train, optimizer, FitOptions(steps=steps, engine=engine))  # type: ignore[arg-type]
            ends.append([parameter.detach() for parameter in model.parameter_list])
    for other in ends[1:]:
        assert_close(other, ends[0], 1e-8)


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
