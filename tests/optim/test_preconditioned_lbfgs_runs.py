"""Runs of preconditioned L-BFGS: native code and torch make the same steps, and resume bit-identically."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from dmf_fast import Observations, info
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import OptimizerSpec, PreconditionedLBFGS, loss_curvature
from dmf_fast.training import FitOptions, fit
from tests.assertions import assert_close, assert_equal
from tests.conftest import using_instruction_set
from tests.optim.lbfgs import DECAY, model_of, spec_of, trained
from tests.problems import make_problem


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
