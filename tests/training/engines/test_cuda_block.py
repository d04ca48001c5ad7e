"""How runs are laid out for blocks on a GPU: places, Ω and states, all of it on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import _native
from dmf_fast._native import Part
from dmf_fast.ops.planner import plan_descent
from dmf_fast.optim.native import NotNative
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.training import FitOptions
from dmf_fast.training.arguments import model_of
from dmf_fast.training.engines.cuda_block import CudaBlockEngine
from dmf_fast.training.engines.program import DescentProgram
from tests.problems import make_problem
from tests.training.blocks import STATE, blocks_on_cpu
from tests.training.runs import start

ROWS = np.array([0, 3, 3, 1, 4])
COLUMNS = np.array([2, 0, 5, 5, 1])
VALUES = np.array([1.0, -2.0, 3.0, 0.5, 4.0], dtype=np.float32)
WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0, 5.0], dtype=np.float32)
LIMIT = 227 * 1024


def make(
    dims: tuple[int, ...] = (6, 4, 3, 5),
    rows: np.ndarray = ROWS,
    rule: _native.Rule | None = None,
    limit: int = LIMIT,
    total_weight: float = 15.0,
) -> _native.BlockRun32:
    program = DescentProgram(plan_descent(dims, rows.size, "cuda")).native()
    rule = rule or _native.Rule(_native.RuleKind.adam, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
    shape, given = (dims[-1], dims[0]), (rows, COLUMNS, VALUES, WEIGHTS)
    return _native.BlockRun32(program, shape, *given, 0.5, total_weight, rule, -1.0, -1.0, limit)


def view(run: _native.BlockRun32, memory: np.ndarray, part: Part, factor: int) -> np.ndarray:
    offset, rows, columns, stride = run.place(part, factor)
    strides = (stride * memory.itemsize, memory.itemsize)
    return np.lib.stride_tricks.as_strided(memory[offset:], (rows, columns), strides)


def test_factors_and_moments_have_places_of_their_own() -> None:
    run = make()
    memory = run.memory()
    before = memory.copy()
    seen: list[np.ndarray] = []
    for part in (Part.parameter, Part.first_moment, Part.second_moment):
        for factor in range(3):
            numbers = view(run, memory, part, factor)
            assert (numbers == 0).all()
            numbers[:] = len(seen) + 1
            seen.append(numbers)
    assert all((numbers == place + 1).all() for place, numbers in enumerate(seen))
    for numbers in seen:
        numbers[:] = 0
    assert np.array_equal(memory.view(np.int32), before.view(np.int32))


def test_values_and_weights_stand_in_the_memory_in_row_order() -> None:
    memory = make().memory()
    for numbers in (VALUES, WEIGHTS):
        wanted = numbers[np.argsort(ROWS, kind="stable")]
        starts = range(memory.size - wanted.size + 1)
        assert sum(np.array_equal(memory[start : start + wanted.size], wanted) for start in starts) == 1


def test_a_run_begins_at_step_0_and_may_continue() -> None:
    run = make()
    state = run.state()
    assert state.dtype == STATE
    assert state["step"].tolist() == [0]
    assert state["outcome"].tolist() == [int(_native.Outcome.paused)]
    assert run.shared_bytes <= LIMIT


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"dims": (6, *[3] * 8, 5)}, "has 9 factors, and a block takes 1 to 8"),
        ({"dims": (6, 257, 5)}, "have 257 columns, and a block takes at most 256"),
        ({"limit": 100}, "too little shared memory"),
    ],
)
def test_what_is_too_large_for_a_block_has_an_error_of_its_own(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(_native.TooLargeForBlock, match=reason):
        make(**given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"rows": ROWS + 1}, "inside the matrix"),
        ({"rows": ROWS[1:]}, "columns must be one-dimensional with 4"),
        ({"total_weight": 0.0}, "weights must sum to more than 0"),
    ],
)
def test_what_is_wrong_is_not_called_too_large(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        make(**given)
    assert type(error.value) is ValueError


def test_there_are_places_only_for_what_there_is() -> None:
    run = make(rule=_native.Rule(_native.RuleKind.gradient_descent, lr=0.1))
    with pytest.raises(ValueError, match="does not keep this moment"):
        run.place(Part.first_moment, 0)
    with pytest.raises(ValueError, match="factor is out of range"):
        run.place(Part.parameter, 3)


def test_only_what_is_too_large_is_left_to_another_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem((9, 6, 8), seed=0, dtype=torch.float32)
    model, train = model_of(start(problem, torch.float32)), problem.observations()
    rule, options = OptimizerSpec(torch.optim.SGD, {"lr": 0.1}), FitOptions()
    with blocks_on_cpu() as blocks:
        blocks.shared_limit = 1000
        with pytest.raises(NotNative, match="too little shared memory"):
            CudaBlockEngine(model, train, rule, options)

        def mistaken(*arguments: object, **more: object) -> None:
            raise ValueError("rows must be sorted")

        monkeypatch.setattr(_native, "BlockRun32", mistaken)
        with pytest.raises(ValueError, match="rows must be sorted"):
            CudaBlockEngine(model, train, rule, options)
