"""What Optuna is told and asked: the scales of the space, trials that failed, and when one is hopeless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dmf_fast.completion import CompletionOptions
from dmf_fast.tuning import SearchSpace, TuningTrial, TuningTrialState
from dmf_fast.tuning.proposal import propose

START = CompletionOptions()
SPACE = SearchSpace({"weight_decay": (0.02, 1.0), "degree_exponent": (0.0, 1.0), "hidden": (16, 32)})


def trial(
    number: int, rmse: float | None, state: TuningTrialState = "complete", **values: Any
) -> TuningTrial:
    tried = {"weight_decay": 0.1, "degree_exponent": 0.5, "hidden": 16} | values
    return TuningTrial(number, state, tried, rmse, 4, 5, 0.5, {} if rmse is None else {10: rmse, 40: rmse})


def test_what_has_no_upper_bound_is_searched_for_on_a_logarithmic_scale() -> None:
    space = SearchSpace(
        {
            "weight_decay": (0.02, 1.0),
            "bias_weight_decay": (0.002, 1.0),
            "lr": (1e-3, 1.0),
            "init_scale": (1e-6, 0.1),
            "degree_exponent": (0.0, 1.0),
            "validation_fraction": (0.01, 0.2),
        }
    )
    found = space.distributions(START)
    assert {name: one.log for name, one in found.items()} == {
        "weight_decay": True,
        "bias_weight_decay": True,
        "lr": True,
        "init_scale": True,
        "degree_exponent": False,
        "validation_fraction": False,
    }
    assert {name: (one.low, one.high) for name, one in found.items()} == space.ranges


def test_choices_are_those_of_the_space_and_that_of_the_start_each_once() -> None:
    (hidden,) = SearchSpace({"hidden": (16, 32)}).distributions(START).values()
    assert hidden.choices == (16, 32, 64)
    (hidden,) = SearchSpace({"hidden": (16, 64)}).distributions(START).values()
    assert hidden.choices == (16, 64)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, {"weight_decay": 0.13, "bias_weight_decay": 0.13, "lr": 1e-3, "hidden": 64}),
        (
            {"weight_decay": 5.0, "bias_weight_decay": 0.5, "lr": 0.25, "hidden": 8},
            {"weight_decay": 1.0, "bias_weight_decay": 0.5, "lr": 0.25, "hidden": 8},
        ),
        (
            {"weight_decay": 0.001, "lr": 9.0},
            {"weight_decay": 0.02, "bias_weight_decay": 0.002, "lr": 1.0, "hidden": 64},
        ),
    ],
)
def test_the_first_proposal_is_where_the_start_lies_or_the_nearest_border(
    changes: dict[str, Any], place: dict[str, Any]
) -> None:
    space = SearchSpace(
        {
            "weight_decay": (0.02, 1.0),
            "bias_weight_decay": (0.002, 1.0),
            "lr": (1e-3, 1.0),
            "hidden": (16, 32),
        }
    )
    first = propose(START.changed(changes), space, 3, [], None)
    assert (first.number, first.values) == (0, place)


def test_a_diverged_trial_is_reported_as_failed_and_a_pruned_one_as_pruned() -> None:
    trials = [trial(0, 0.9), trial(1, None, "diverged"), trial(2, 0.95, "pruned", hidden=32)]
    study = propose(START, SPACE, 0, trials, None).trial.study
    told = study.get_trials(deepcopy=False)[:3]
    assert [(one.state.name, one.value) for one in told] == [
        ("COMPLETE", 0.9), ("FAIL", None), ("PRUNED", 0.95),
    ]  # fmt: skip
    assert [one.params for one in told] == [one.values for one in trials]
    assert [one.intermediate_values for one in told] == [one.reports for one in trials]
    assert study.best_value == 0.9


def test_a_proposal_depends_on_the_seed_and_on_the_number_of_trials() -> None:
    once, again, other = (propose(START, SPACE, seed, [trial(0, 0.9)], None) for seed in (0, 0, 1))
    assert once.values == again.values != other.values
    assert once.number == 1
    later = propose(START, SPACE, 0, [trial(0, 0.9), trial(1, 0.9)], None)
    assert later.number == 2
    assert later.values != once.values


FIVE = [trial(number, rmse) for number, rmse in enumerate((0.5, 0.6, 0.7, 0.8, 0.9))]
SHORT = [replace(one, reports={10: 0.7}) if one.number > 1 else one for one in FIVE]


@pytest.mark.parametrize(
    ("trials", "warm_up", "step", "rmse", "hopeless"),
    [
        (FIVE, 30, 40, 0.71, True),
        (FIVE, 30, 40, 0.7, False),  # the median itself
        (FIVE, 40, 40, 0.71, True),
        (FIVE, 41, 40, 0.71, False),  # it has not warmed up
        (FIVE, None, 40, 9.0, False),  # nothing is pruned
        (FIVE[:4], 30, 40, 9.0, False),  # too few to compare with
        (SHORT, 30, 40, 9.0, False),  # too few of them came so far
        ([*FIVE[2:], *SHORT[3:]], 30, 40, 0.81, True),
    ],
)
def test_a_trial_is_hopeless_where_it_is_worse_than_the_median_at_its_step(
    trials: Sequence[TuningTrial], warm_up: int | None, step: int, rmse: float, hopeless: bool
) -> None:
    assert propose(START, SPACE, 0, trials, warm_up).is_hopeless(step, rmse) == hopeless


def test_trials_that_diverged_are_not_compared_with() -> None:
    trials = [*FIVE[:4], trial(4, None, "diverged")]
    assert not propose(START, SPACE, 0, trials, 30).is_hopeless(40, 9.0)
