"""descend makes the steps of a plain loop over the reference and torch's optimisers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.ops.functional import Reduction
from dmf_fast.training import Adam, DescentOptions, GradientDescent, Recording, Rule, descend
from tests.problems import Problem, make_problem
from tests.training.descents import RULES, assert_close, assert_equal, plain_descent, start, suited

STEPS = 1000
FEW_ROWS = Recording(every=10**9, norms=False)


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


@lru_cache
def plain(case: Case, rule: Rule) -> list[Tensor]:
    problem = case.problem()
    return plain_descent(problem.factors, problem.observations(), rule, [STEPS], case.reduction)[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"depth {len(case.dims) - 1}")
@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("instruction_set", "descent_plan")
def test_a_thousand_steps_are_those_of_the_plain_loop(name: str, case: Case) -> None:
    problem = case.problem()
    train, factors = problem.observations(), start(problem)
    rule = suited(RULES[name], train, case.reduction)
    options = DescentOptions(steps=STEPS, reduction=case.reduction)
    result = descend(factors, train, rule, options, recording=FEW_ROWS)
    assert (result.steps, result.stopped_because) == (STEPS, "steps")
    assert_close(factors, plain(case, rule), 1e-9)
    losses = result.history["train_loss"].to_pylist()
    assert losses[-1] < losses[0]


def test_the_cases_have_rows_and_columns_without_entries() -> None:
    for case in CASES[1], CASES[3]:
        problem = case.problem()
        assert len(problem.rows.unique()) < problem.shape[0]
        assert len(problem.columns.unique()) < problem.shape[1]


# So large that torch multiplies, the passes go by tiles, and updates are spread over threads.
LARGE = make_problem((400, 300, 300, 500), density=0.02, weighted=True, seed=2)


@lru_cache
def plain_large(rule: Rule) -> list[Tensor]:
    return plain_descent(LARGE.factors, LARGE.observations(), rule, [4])[0]


@pytest.mark.parametrize(
    "rule", [GradientDescent(lr=1.0, momentum=0.5), RULES["group-rmsprop"], Adam(lr=1e-4)]
)
@pytest.mark.usefixtures("instruction_set", "descent_plan", "threads")
def test_a_large_problem_makes_the_same_steps(rule: Rule) -> None:
    factors = start(LARGE)
    descend(factors, LARGE.observations(), rule, DescentOptions(steps=4), recording=FEW_ROWS)
    assert_close(factors, plain_large(rule), 1e-10)
    assert not any(torch.equal(factor, before) for factor, before in zip(factors, LARGE.factors, strict=True))


@pytest.mark.parametrize("dims", [(1, 1), (1, 1, 1), (40, 1, 1), (1, 33, 1), (3, 70, 1, 65, 2)])
@pytest.mark.usefixtures("instruction_set", "descent_plan")
def test_sizes_of_one_make_the_same_steps(dims: tuple[int, ...]) -> None:
    problem = make_problem(dims, pattern="full", seed=3)
    factors, train = start(problem), problem.observations()
    descend(factors, train, RULES["adam"], DescentOptions(steps=50), recording=FEW_ROWS)
    assert_close(factors, plain_descent(problem.factors, train, RULES["adam"], [50])[0], 1e-9)


@pytest.mark.parametrize("pattern", ["one row", "one column", "diagonal"])
@pytest.mark.usefixtures("instruction_set", "descent_plan")
def test_patterns_of_one_line_make_the_same_steps(pattern: str) -> None:
    problem = make_problem((34, 18, 35), pattern=pattern, density=0.9, seed=3)
    factors, train = start(problem), problem.observations()
    descend(factors, train, RULES["momentum"], DescentOptions(steps=50), recording=FEW_ROWS)
    assert_close(factors, plain_descent(problem.factors, train, RULES["momentum"], [50])[0], 1e-9)


# Every step rounds by about 6e-8, and these runs do not amplify what came before.
@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("instruction_set", "descent_plan")
def test_float32_stays_within_2e_5_of_float64_for_200_steps(name: str) -> None:
    problem = make_problem((33, 17, 18, 35), density=0.3, weighted=True, seed=4)
    wide, narrow = start(problem), start(problem, torch.float32)
    train = problem.observations()
    for factors, observations in ((wide, train), (narrow, train.to(dtype=torch.float32))):
        descend(factors, observations, RULES[name], DescentOptions(steps=200), recording=FEW_ROWS)
    assert_close(narrow, wide, 2e-5)


def test_decays_close_to_one_keep_their_digits_in_float32() -> None:
    problem = make_problem((6, 5, 7), pattern="full", seed=5, dtype=torch.float32)
    factors = start(problem, torch.float32)
    rule = Adam(lr=0.25, beta1=0.99999, beta2=0.999999, eps=1e-30)
    descend(factors, problem.observations(), rule, DescentOptions(steps=1), recording=FEW_ROWS)
    for factor, before in zip(factors, problem.factors, strict=True):  # a first step is lr · sign(gradient)
        torch.testing.assert_close(
            (factor - before).abs().detach(), torch.full_like(before, 0.25), rtol=5e-6, atol=0
        )


@pytest.mark.parametrize("name", ["momentum", "group-rmsprop", "adam"])
def test_factors_of_any_memory_layout_are_changed_in_place(name: str) -> None:
    problem = make_problem((9, 6, 8, 7), seed=6)
    train, options = problem.observations(), DescentOptions(steps=30)
    plain_ones = start(problem)
    descend(plain_ones, train, RULES[name], options)

    transposed = [factor.T.contiguous().T for factor in start(problem)]
    padded = [torch.nn.functional.pad(factor, (2, 1, 1, 3), value=7.0) for factor in start(problem)]
    inner = [big[1:-3, 2:-1] for big in padded]
    leaves = [factor.requires_grad_() for factor in start(problem)]
    for factors in (transposed, inner, leaves):
        places = [factor.data_ptr() for factor in factors]
        descend(factors, train, RULES[name], options)
        assert_equal(factors, plain_ones)
        assert [factor.data_ptr() for factor in factors] == places
    assert all(leaf.requires_grad and leaf.is_leaf and leaf.grad is None for leaf in leaves)
    for big in padded:
        assert (big[0] == 7).all()
        assert (big[:, :2] == 7).all()


def test_the_factors_of_a_model_are_trained() -> None:
    problem = make_problem((9, 8), seed=7)
    train = problem.observations()
    model = DeepMatrixFactorization(train.shape, 3, 4, 0.5, seed=0, dtype=torch.float64)
    expected = plain_descent(list(model.factors), train, RULES["adam"], [100])[0]
    before = model.loss(train).item()
    descend(model.factors, train, RULES["adam"], DescentOptions(steps=100))
    assert model.loss(train).item() < before
    assert_close(list(model.factors), expected, 1e-9)


def test_indices_of_32_bits_are_the_same_entries() -> None:
    problem = make_problem((9, 6, 8), seed=8)
    narrow = Problem(**{**vars(problem), "rows": problem.rows.int(), "columns": problem.columns.int()})
    results = []
    for one in (problem, narrow):
        results.append(start(one))
        descend(results[-1], one.observations(), RULES["adam"], DescentOptions(steps=10))
    assert all(torch.equal(*both) for both in zip(*results, strict=True))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("descent_plan")
def test_threads_pieces_and_repetition_change_no_bit(name: str) -> None:
    problem = make_problem((33, 17, 18, 35), density=0.3, weighted=True, seed=9, dtype=torch.float32)
    train, before = problem.observations(), torch.get_num_threads()
    ends = []
    for threads, recording in [
        (1, FEW_ROWS),
        (1, FEW_ROWS),
        (2, FEW_ROWS),
        (1, Recording(every=1)),
        (2, Recording(every=7)),
        (1, Recording()),
    ]:
        torch.set_num_threads(threads)
        ends.append(start(problem, torch.float32))
        descend(ends[-1], train, RULES[name], DescentOptions(steps=60), recording=recording)
    torch.set_num_threads(before)
    for one, other in pairwise(ends):
        assert_equal(one, other)
