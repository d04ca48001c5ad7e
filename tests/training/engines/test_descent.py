"""The native run checks what it is given: a wrong call ends in a sentence, never in a crash."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from dmf_fast import _native
from dmf_fast._native import Descent32, ObservedEntries32, Part, Rule, RuleKind
from dmf_fast.observations import Observations

RULE = Rule(RuleKind.gradient_descent, lr=0.1)


def floats(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


def program(a: tuple[int, int] = (3, 2), b: tuple[int, int] = (4, 2), end: int = 1) -> _native.DescentProgram:
    return _native.DescentProgram(2, [a, b], [], 0, end)


def layout(rows: int = 3, columns: int = 4) -> NDArray[np.uint8]:
    return Observations([0, 1, 2], [0, 2, 1], [1.0, 2.0, 3.0], shape=(rows, columns)).layout().buffer.numpy()


def train(rows: int = 3, columns: int = 4) -> ObservedEntries32:
    return ObservedEntries32(layout(rows, columns), floats(3), None)


def descent(**arguments: object) -> Descent32:
    given = {"loss_scale": 1.0, "rule": RULE, **arguments}
    return Descent32(given.pop("program", program()), given.pop("train", [train()]), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ObservedEntries32(layout()[:-8].copy(), floats(3), None), "layout must hold a layout"),
        (lambda: ObservedEntries32(layout(), floats(4), None), "values must be one-dimensional with 3"),
        (lambda: ObservedEntries32(layout(), floats(3), floats(2)), "weights must be one-dimensional with 3"),
        (lambda: ObservedEntries32(layout(), floats(3), 0 * floats(3)), "must sum to more than 0"),
        (lambda: descent(train=[None]), "train must be a list of ObservedEntries, got None in it"),
        (lambda: descent(train=[]), "at least one block, got none"),
        (
            lambda: descent(train=[train(), train(4)]),
            "must have matrices of the same shape",
        ),
        (lambda: descent(train=[train()] * 2), "a must have as many rows as W"),
        (lambda: descent(program=program(a=(5, 2))), "a must have as many rows as W"),
        (lambda: descent(program=program(b=(4, 3))), "b_transposed must have"),
        (lambda: descent(program=program(b=(3, 2), end=0), train=[train(3, 3)]), "must be used once"),
        (lambda: descent(program=program(a=(3, 1 << 61))), "must fit the memory of this machine"),
        (lambda: descent(threads=0), "threads must be from 1 to 4096, got 0"),
        (lambda: descent(loss_scale=float("nan")), "loss_scale and mean must be finite"),
        (lambda: descent(rule=Rule(RuleKind.adam, lr=-1.0)), "lr must be at least 0"),
        (lambda: descent(rule=Rule(RuleKind.adam, lr=1.0, beta1=1.0)), "must be at least 0 and below 1"),
        (lambda: descent(scales=[floats(3)]), "one for each of 2 parameters, got 1"),
        (lambda: descent(scales=[floats(4), None]), "scales of a parameter must be one-dimensional with 3"),
        (lambda: descent(scales=[0 * floats(3), None]), "scales must be above 0"),
        (
            lambda: descent(rule=Rule(RuleKind.adam, lr=1.0), scales=[floats(3), None]),
            "Adam does not support scales",
        ),
        (lambda: descent().read(Part.parameter, 2), "parameter must be below 2, got 2"),
        (lambda: descent().read(Part.parameter, -1), "parameter must be below 2, got -1"),
        (lambda: descent().read(Part.first_moment, 0), "the rule does not keep this moment"),
        (lambda: descent().read(Part.kept, 0), "nothing has been kept"),
        (lambda: descent().write(Part.parameter, 0, floats(2, 3)), "must have the shape of the parameter"),
        (lambda: descent(biases=True).write(Part.parameter, 2, floats(3, 1)), "must have the shape"),
        (lambda: descent().mean_squared_error([train(3, 5)]), "of a matrix of the shape of train's"),
        (lambda: descent().mean_squared_error([train()] * 2), "of as many blocks as train: 1, got 2"),
        (lambda: descent().resume_from(1, [1.0]), "scalars must be 0 numbers for this rule, got 1"),
        (lambda: descent().resume_from(-1, []), "step must be at least 0, got -1"),
    ],
)
def test_a_wrong_call_ends_in_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (RuleKind.gradient_descent, 0),
        (RuleKind.group_rmsprop, 1),
        (RuleKind.adam, 0),
        (RuleKind.adaptive_gradient_descent, 3),
    ],
)
def test_rules_take_the_scalars_that_they_keep(kind: RuleKind, count: int) -> None:
    run = descent(rule=Rule(kind, lr=0.1), biases=True)
    assert run.parameters == 4
    assert len(run.scalars()) == count
    run.resume_from(3, run.scalars())
    assert run.step == 3


def test_entries_outlive_their_arrays() -> None:
    run = descent(mean=3.0)  # of values that are 1, by factors that are zero
    run.run(2, -1.0, -1.0, 60.0)
    assert run.loss == run.mean_squared_error([train()]) == 4.0


class Pair:
    """Two ranks in two threads that add up their arrays, and count how often."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=600)
        self.arrays: list[list[NDArray[np.floating]]] = [[], []]
        self.calls: list[int] = []

    def rank(self, number: int) -> Callable[[list[NDArray[np.floating]]], None]:
        def add_up(arrays: list[NDArray[np.floating]]) -> None:
            self.arrays[number] = arrays
            self.barrier.wait()
            sums = [one + other for one, other in zip(*self.arrays, strict=True)]
            self.barrier.wait()
            for array, total in zip(arrays, sums, strict=True):
                array[:] = total
            self.calls.append(number)

        return add_up


def block(values: list[float]) -> ObservedEntries32:
    rows = Observations([0, 1, 2], [0, 2, 1], values, shape=(3, 4))
    return ObservedEntries32(rows.layout().buffer.numpy(), rows.layout().values.numpy(), None)


def start(run: Descent32, first_row: int) -> None:
    a, b = (np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) / 16 for rows in (6, 4))
    run.write(Part.parameter, 0, a[first_row : first_row + len(run.read(Part.parameter, 0))])
    run.write(Part.parameter, 1, b)


def test_two_ranks_make_the_run_of_two_blocks() -> None:
    blocks, pair = [block([1.0, 2.0, 3.0]), block([-1.0, 0.5, 2.0])], Pair()
    whole = descent(program=program(a=(6, 2)), train=blocks, biases=True)
    start(whole, 0)
    whole.run(20, -1.0, -1.0, 60.0)
    error = whole.mean_squared_error(blocks)

    def work(rank: int) -> Descent32:
        run = descent(train=[blocks[rank]], biases=True, ranks=pair.rank(rank))
        start(run, 3 * rank)
        run.run(20, -1.0, -1.0, 60.0)
        assert run.loss == whole.loss
        assert run.mean_squared_error([blocks[rank]]) == error
        return run

    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(work, range(2)))
    assert len(pair.calls) == 2 * (1 + 21 + 1)  # the weights, the loss and gradients at 21 points, the error
    for parameter, is_shared in enumerate([True, False, True, False]):
        parts = [run.read(Part.parameter, parameter) for run in runs]
        found = np.concatenate(parts) if is_shared else parts[0]
        assert (found == whole.read(Part.parameter, parameter)).all()
        assert is_shared or (parts[0] == parts[1]).all()


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_what_ranks_raises_leaves_the_run(fails_at: int) -> None:
    calls = []

    def add_up(arrays: list[NDArray[np.floating]]) -> None:
        calls.append(arrays)
        if len(calls) == fails_at:
            raise ConnectionError("no network")

    with pytest.raises(ConnectionError, match="no network"):
        descent(biases=True, ranks=add_up).run(3, -1.0, -1.0, 60.0)
    for arrays in calls:  # the run is gone, their memory is not
        assert all(np.isfinite(array).all() for array in arrays)
        for array in arrays:
            array += 1


def test_ranks_must_not_use_the_run_that_it_is_called_by() -> None:
    def add_up(arrays: list[NDArray[np.floating]]) -> None:
        arrays.clear()
        if runs:
            runs[0].read(Part.parameter, 0)

    runs: list[Descent32] = []
    run = descent(ranks=add_up)
    runs.append(run)
    with pytest.raises(RuntimeError, match="must not use the run"):
        run.run(3, -1.0, -1.0, 60.0)
    runs.clear()
    assert run.run(3, -1.0, -1.0, 60.0) == _native.Outcome.reached


def test_blocks_may_have_no_entries_but_not_all_of_them() -> None:
    empty = Observations([], [], [], shape=(3, 4)).layout().buffer.numpy()
    nothing = ObservedEntries32(empty, floats(0), None)
    run = descent(program=program(a=(6, 2)), train=[nothing, block([1.0, 2.0, 3.0])])
    assert run.run(3, -1.0, -1.0, 60.0) == _native.Outcome.reached
    for call in (lambda: descent(train=[nothing]), lambda: descent().mean_squared_error([nothing])):
        with pytest.raises(ValueError, match="must sum to more than 0"):
            call()
