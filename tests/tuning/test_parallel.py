"""Concurrent trials: the same for a given number of them and a seed, whichever ends first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.experiments import low_rank_problem
from dmf_fast.files.records import load_record, save_record
from dmf_fast.tuning import TuningOptions, TuningTrial, tune
from dmf_fast.tuning.proposal import Proposal, propose
from tests.tuning.test_proposals import SPACE as OF_RATINGS
from tests.tuning.test_proposals import START, trial
from tests.tuning.test_tune import OPTIONS, SPACE, measured

PARALLEL = TuningOptions(trials=14, parallel=3)


@pytest.fixture(scope="module")
def observed() -> Observations:
    """A noisy matrix of rank 2."""
    return low_rank_problem(30, 20, 2, 250, seed=0, noise=0.3).train


@pytest.fixture(scope="module")
def whole(observed: Observations) -> list[TuningTrial]:
    """What a search finds that nobody disturbs."""
    return measured(tune(observed, OPTIONS, SPACE, PARALLEL).trials)


def test_a_search_of_several_at_once_repeats_itself(observed: Observations, whole: list[TuningTrial]) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert measured(tune(observed, OPTIONS, SPACE, PARALLEL).trials) == whole
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 1


def test_how_many_run_at_once_decides_the_trials_but_not_the_first(
    observed: Observations, whole: list[TuningTrial]
) -> None:
    (plain, *others) = measured(tune(observed, OPTIONS, SPACE, replace(PARALLEL, parallel=1)).trials)
    assert whole[0] == plain
    assert whole[1:] != others
    assert [one.number for one in whole] == list(range(14))


def test_trials_are_reported_in_order_and_run_concurrently(
    observed: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(3, timeout=600)
    begun: set[int] = set()
    told: list[int] = []
    hopeless = Proposal.is_hopeless

    def waits(proposal: Proposal, step: int, rmse: float) -> bool:
        if proposal.number not in begun:
            begun.add(proposal.number)
            barrier.wait()  # none goes on before all three are there
        return hopeless(proposal, step, rmse)

    monkeypatch.setattr(Proposal, "is_hopeless", waits)
    tuning = TuningOptions(trials=6, parallel=3)
    tune(observed, OPTIONS, SPACE, tuning, after_trial=lambda trial: told.append(trial.number))
    assert told == list(range(6))


@pytest.mark.parametrize("left", [[], [0, 2], [1], [*range(11)], [*range(9), 10], [*range(12)]])
def test_a_search_killed_within_a_batch_resumes_to_the_same_result(
    observed: Observations, whole: list[TuningTrial], tmp_path: Path, left: list[int]
) -> None:
    file = tmp_path / "trials.json"
    made: list[int] = []
    tune(observed, OPTIONS, SPACE, PARALLEL, kept_in=file)
    content = load_record(file, dict[str, Any])
    save_record(file, content | {"trials": [content["trials"][number] for number in left]})

    resumed = tune(
        observed, OPTIONS, SPACE, PARALLEL, kept_in=file, after_trial=lambda trial: made.append(trial.number)
    )

    assert measured(resumed.trials) == whole
    assert made == [number for number in range(14) if number not in left]


@pytest.mark.parametrize("left", [[3], [0, 1, 3], [1, 0], [0, 1, 2, 4, 6]])
def test_trials_that_no_killed_search_leaves_are_refused(
    observed: Observations, tmp_path: Path, left: list[int]
) -> None:
    file = tmp_path / "trials.json"
    tune(observed, OPTIONS, SPACE, replace(PARALLEL, trials=7), kept_in=file)
    content = load_record(file, dict[str, Any])
    save_record(file, content | {"trials": [content["trials"][number] for number in left]})
    with pytest.raises(ValueError, match="its trials are incomplete or out of order"):
        tune(observed, OPTIONS, SPACE, PARALLEL, kept_in=file)


def test_ctrl_c_ends_all_that_run_and_keeps_those_before(
    observed: Observations, whole: list[TuningTrial], tmp_path: Path, press_ctrl_c: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file, hopeless = tmp_path / "trials.json", Proposal.is_hopeless

    def interrupt(proposal: Proposal, step: int, rmse: float) -> bool:
        if proposal.number == 4:
            press_ctrl_c()
        return hopeless(proposal, step, rmse)

    with monkeypatch.context() as patch:
        patch.setattr(Proposal, "is_hopeless", interrupt)
        found = tune(observed, OPTIONS, SPACE, PARALLEL, kept_in=file)

    assert found.interrupted
    assert [one.number for one in found.trials[:3]] == [0, 1, 2]
    assert len(found.trials) < 6
    assert measured(tune(observed, OPTIONS, SPACE, PARALLEL, kept_in=file).trials) == whole


def test_a_trial_that_fails_ends_the_search_with_its_error(
    observed: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(proposal: Proposal, step: int, rmse: float) -> bool:
        if proposal.number == 1:
            raise MemoryError("not mine")
        return False

    monkeypatch.setattr(Proposal, "is_hopeless", fails)
    with pytest.raises(MemoryError, match="not mine"):
        tune(observed, OPTIONS, SPACE, PARALLEL)
    assert torch.get_num_threads() == 1


TWELVE = [trial(number, 0.5 + 0.01 * number, weight_decay=0.02 + 0.08 * number) for number in range(12)]


def test_a_proposal_keeps_away_from_trials_under_way() -> None:
    alone = propose(START, OF_RATINGS, 0, TWELVE, None)
    same = propose(START, OF_RATINGS, 0, TWELVE, None, number=12)
    assert same.values == alone.values
    # Had all trials under way this proposal, it would not be made again.
    crowded = propose(START, OF_RATINGS, 0, TWELVE, None, number=12, running=[alone.values] * 8)
    assert crowded.values != alone.values
    assert crowded.number == 12


def test_trials_under_way_do_not_prune_others() -> None:
    five = [trial(number, 0.5) for number in range(5)]
    proposal = propose(START, OF_RATINGS, 0, five[:4], 30, running=[five[4].values])
    assert not proposal.is_hopeless(40, 9.0)
