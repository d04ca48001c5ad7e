"""How runs are laid out for blocks on a GPU: places, Ω and states, all of it on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from dmf_fast import _native
from dmf_fast._native import Part
from dmf_fast.ops.planner import plan_descent
from dmf_fast.training.engines.program import DescentProgram

ROWS = np.array([0, 3, 3, 1, 4])
COLUMNS = np.array([2, 0, 5, 5, 1])
VALUES = np.array([1.0, -2.0, 3.0, 0.5, 4.0], dtype=np.float32)
WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0, 5.0], dtype=np.float32)
LIMIT = 227 * 1024


def add(
    runs: _native.BlockRuns32,
    dims: tuple[int, ...] = (6, 4, 3, 5),
    rows: np.ndarray = ROWS,
    rule: _native.Rule | None = None,
) -> int:
    program = DescentProgram(plan_descent(dims, rows.size, "cuda")).native()
    rule = rule or _native.Rule(_native.RuleKind.adam, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
    return runs.add(program, (dims[-1], dims[0]), rows, COLUMNS, VALUES, WEIGHTS, 0.5, 15.0, rule, -1.0, -1.0)


def view(runs: _native.BlockRuns32, memory: np.ndarray, run: int, part: Part, factor: int) -> np.ndarray:
    offset, rows, columns, stride = runs.place(run, part, factor)
    strides = (stride * memory.itemsize, memory.itemsize)
    return np.lib.stride_tricks.as_strided(memory[offset:], (rows, columns), strides)


def test_factors_and_moments_have_places_of_their_own() -> None:
    runs = _native.BlockRuns32(LIMIT)
    assert [add(runs), add(runs, (6, 7, 5))] == [0, 1]
    memory = runs.memory()
    before = memory.copy()
    seen = []
    for run, factors in ((0, 3), (1, 2)):
        for part in (Part.parameter, Part.first_moment, Part.second_moment):
            for factor in range(factors):
                numbers = view(runs, memory, run, part, factor)
                assert (numbers == 0).all()
                numbers[:] = len(seen) + 1
                seen.append(numbers)
    assert all((numbers == place + 1).all() for place, numbers in enumerate(seen))
    assert (memory != before).sum() == sum(numbers.size for numbers in seen)
    for numbers in seen:
        numbers[:] = 0
    assert np.array_equal(memory.view(np.int32), before.view(np.int32))


def test_values_and_weights_stand_in_the_memory_in_row_order() -> None:
    runs = _native.BlockRuns32(LIMIT)
    add(runs)
    memory = runs.memory()
    for numbers in (VALUES, WEIGHTS):
        wanted = numbers[np.argsort(ROWS, kind="stable")]
        starts = range(memory.size - wanted.size + 1)
        assert sum(np.array_equal(memory[start : start + wanted.size], wanted) for start in starts) == 1


def test_states_begin_at_step_0_and_may_run() -> None:
    runs = _native.BlockRuns64(LIMIT)
    assert runs.states().size == 0
    single = _native.BlockRuns32(LIMIT)
    add(single)
    states = single.states()
    assert states.dtype.names == ("step", "square_average", "loss", "gradient_norm", "outcome")
    assert states.dtype.itemsize == 40
    assert states["step"].tolist() == [0]
    assert states["outcome"].tolist() == [int(_native.Outcome.paused)]
    assert single.runs().size % 16 == 0
    assert single.shared_bytes <= LIMIT


def test_runs_that_are_none_for_a_block_are_refused() -> None:
    runs = _native.BlockRuns32(LIMIT)
    with pytest.raises(ValueError, match="1 to 8"):
        add(runs, (6, *[3] * 8, 5))
    with pytest.raises(ValueError, match="inside the matrix"):
        add(runs, rows=ROWS + 1)
    with pytest.raises(ValueError, match="columns must be one-dimensional with 4"):
        add(runs, rows=ROWS[1:])
    with pytest.raises(ValueError, match="shared memory"):
        add(_native.BlockRuns32(100))
    add(runs, rule=_native.Rule(_native.RuleKind.gradient_descent, lr=0.1))
    with pytest.raises(ValueError, match="no such moment"):
        runs.place(0, Part.first_moment, 0)
    with pytest.raises(ValueError, match="no such factor"):
        runs.place(0, Part.parameter, 3)
    with pytest.raises(ValueError, match="no such run"):
        runs.place(1, Part.parameter, 0)
