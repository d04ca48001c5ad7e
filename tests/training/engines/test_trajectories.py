"""The steps of every engine are those of a plain loop over the reference and torch's optimizers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast.ops.functional import Reduction
from dmf_fast.training import FitOptions, fit
from tests import problems
from tests.assertions import assert_close
from tests.problems import Problem, make_problem
from tests.training.runs import DECAYING, FEW_ROWS, PLAIN, RULES, plain_loop, start, suited


@dataclass(frozen=True)
class Case:
    """A problem and how its loss is reduced."""

    dims: tuple[int, ...]
    pattern: str
    weighted: bool
    reduction: Reduction

    def problem(self) -> Problem:
        return make_problem(self.dims, pattern=self.pattern, density=0.4, weighted=self.weighted, seed=1)


CASES = [
    Case((7, 9), "uniform", True, "mean"),
    Case((13, 3, 17), "skewed", True, "sum"),
    Case((10, 10, 10, 10), "uniform", False, "mean"),
    Case((21, 5, 8, 4, 11), "skewed", True, "mean"),
    Case((6, 7, 9, 8, 7, 5), "full", False, "sum"),
]
# Every rule with a decay at every depth; without one at one depth.
RULES_OF_CASES = [(case, name) for case in CASES for name in DECAYING] + [(CASES[2], name) for name in PLAIN]


@lru_cache
def expected(case: Case, name: str, steps: int) -> list[Tensor]:
    """The factors of the plain loop, on the CPU."""
    device, problems.DEVICE = problems.DEVICE, "cpu"
    given = case.problem()
    train = given.observations()
    problems.DEVICE = device
    optimizer = suited(RULES[name], train, case.reduction)
    return plain_loop(given.factors, train, optimizer, [steps], case.reduction)[0]


def check(engine: str, case: Case, name: str, steps: int) -> None:
    if engine.startswith("cuda") and "adaptive" in name:
        pytest.skip("the adaptive step has no native step on a GPU")
    given = case.problem()
    train, factors = given.observations(), start(given)
    options = FitOptions(steps=steps, reduction=case.reduction, engine=engine)  # type: ignore[arg-type]
    result = fit(factors, train, suited(RULES[name], train, case.reduction), options, recording=FEW_ROWS)
    assert (result.engine, result.steps, result.stopped_because) == (engine, steps, "steps")
    assert_close(factors, expected(case, name, steps), 1e-9)
    losses = result.history["train_loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("case", "name"),
    [pytest.param(case, name, id=f"{name}, depth {len(case.dims) - 1}") for case, name in RULES_OF_CASES],
)
@pytest.mark.usefixtures("descent_plan")
def test_a_thousand_steps_of_native_code_are_those_of_the_plain_loop(
    kernels: str, case: Case, name: str
) -> None:
    # The adaptive step divides by differences of gradients, which amplifies rounding: to 1e-4 in 200 steps.
    check(kernels, case, name, 60 if "adaptive" in name else 1000)


@pytest.mark.parametrize("name", DECAYING)
def test_some_steps_of_every_engine_are_those_of_the_plain_loop(engine: str, name: str) -> None:
    for case in CASES[1], CASES[2]:
        check(engine, case, name, 60)


def test_the_cases_have_rows_and_columns_without_entries() -> None:
    for case in CASES[1], CASES[3]:
        given = case.problem()
        assert len(given.rows.unique()) < given.shape[0]
        assert len(given.columns.unique()) < given.shape[1]


# So large that torch multiplies, the passes go by tiles, and updates are spread over threads.
LARGE = make_problem((400, 300, 300, 500), density=0.02, weighted=True, seed=2)
RULES_OF_LARGE: dict[str, Any] = {
    "momentum": partial(torch.optim.SGD, lr=1.0, momentum=0.5),
    "group RMSprop": RULES["group RMSprop"],
    "Adam": partial(torch.optim.Adam, lr=1e-4),
    "adaptive": RULES["adaptive"],
}


@lru_cache
def expected_of_large(name: str) -> list[Tensor]:
    return plain_loop(LARGE.factors, LARGE.observations(), RULES_OF_LARGE[name], [4])[0]


@pytest.mark.parametrize("name", RULES_OF_LARGE)
@pytest.mark.usefixtures("descent_plan", "threads")
def test_a_large_problem_makes_the_same_steps(name: str) -> None:
    factors = start(LARGE)
    options = FitOptions(steps=4, engine="native")
    fit(factors, LARGE.observations(), RULES_OF_LARGE[name], options, recording=FEW_ROWS)
    assert_close(factors, expected_of_large(name), 1e-10)
    assert not any(torch.equal(factor, before) for factor, before in zip(factors, LARGE.factors, strict=True))


@pytest.mark.parametrize("dims", [(1, 1), (1, 1, 1), (40, 1, 1), (1, 33, 1), (3, 70, 1, 65, 2)])
@pytest.mark.usefixtures("descent_plan")
def test_sizes_of_one_make_the_same_steps(kernels: str, dims: tuple[int, ...]) -> None:
    check(kernels, Case(dims, "full", False, "mean"), "Adam", 50)


@pytest.mark.parametrize("pattern", ["one row", "one column", "diagonal"])
@pytest.mark.usefixtures("descent_plan")
def test_patterns_of_one_line_make_the_same_steps(kernels: str, pattern: str) -> None:
    check(kernels, Case((34, 18, 35), pattern, False, "mean"), "momentum", 50)


# Every step rounds by about 6e-8, and these runs do not amplify what came before.
@pytest.mark.parametrize("name", [name for name in RULES if "adaptive" not in name])
@pytest.mark.usefixtures("descent_plan")
def test_float32_stays_within_2e_5_of_float64_for_200_steps(kernels: str, name: str) -> None:
    given = make_problem((33, 17, 18, 35), density=0.3, weighted=True, seed=4)
    wide, narrow = start(given), start(given, torch.float32)
    options = FitOptions(steps=200, engine=kernels)  # type: ignore[arg-type]
    for factors in (wide, narrow):
        train = given.observations().to(dtype=factors[0].dtype)
        fit(factors, train, RULES[name], options, recording=FEW_ROWS)
    assert_close(narrow, wide, 2e-5)


def test_decays_close_to_one_keep_their_digits_in_float32(engine: str) -> None:
    if engine == "torch":
        pytest.skip("torch itself computes the bias corrections in float64")
    given = make_problem((6, 5, 7), pattern="full", seed=5, dtype=torch.float32)
    factors = start(given, torch.float32)
    optimizer = partial(torch.optim.Adam, lr=0.25, betas=(0.99999, 0.999999), eps=1e-30)
    options = FitOptions(steps=1, engine=engine)  # type: ignore[arg-type]
    fit(factors, given.observations(), optimizer, options, recording=FEW_ROWS)
    for factor, before in zip(factors, given.factors, strict=True):  # a first step is lr · sign(gradient)
        moved = (factor - before).abs().detach()
        torch.testing.assert_close(moved, torch.full_like(moved, 0.25), rtol=5e-6, atol=0)
