"""The search for options: never worse than its start, and the same whenever it is interrupted."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dmf_fast import Observations
from dmf_fast.completion import CompletionOptions, complete_matrix
from dmf_fast.experiments import low_rank_problem
from dmf_fast.files.records import load_record, save_record
from dmf_fast.tuning import SearchSpace, TuningOptions, TuningResult, TuningTrial, search, tune
from dmf_fast.tuning.proposal import Proposal, propose

OPTIONS = CompletionOptions.of(
    {"depth": 2, "hidden": 4, "steps": 80, "evaluate_every": 2, "patience": 10, "validation_fraction": 0.2}
)
SPACE = SearchSpace().changed(hidden=(2, 4))


@pytest.fixture(scope="module")
def observed() -> Observations:
    """A noisy matrix of rank 2."""
    return low_rank_problem(30, 20, 2, 250, seed=0, noise=0.3).train


def measured(trials: tuple[TuningTrial, ...]) -> list[TuningTrial]:
    """Return the trials without what a clock has measured."""
    return [replace(trial, seconds=0.0) for trial in trials]


def test_the_first_trial_has_the_options_that_were_given_so_that_none_worse_is_found(
    observed: Observations,
) -> None:
    plain = complete_matrix(observed, replace(OPTIONS, refit=False))

    found = tune(observed, OPTIONS, SPACE, TuningOptions(trials=12))

    assert found.trials[0].validation_rmse == plain.validation_rmse
    assert found.best.validation_rmse is not None
    assert plain.validation_rmse is not None
    assert found.best.validation_rmse <= plain.validation_rmse
    assert len(found.trials) == 12
    assert not found.interrupted


def test_the_options_found_repeat_the_best_trial(observed: Observations) -> None:
    found = tune(observed, OPTIONS, SPACE, TuningOptions(trials=12, seed=3))

    again = complete_matrix(observed, replace(found.options, refit=False))

    assert again.validation_rmse == found.best.validation_rmse
    assert again.best_step == found.best.best_step
    assert found.options.refit == OPTIONS.refit
    complete = [trial for trial in found.trials if trial.state == "complete"]
    assert found.best.validation_rmse == min(trial.validation_rmse or 9.0 for trial in complete)


def test_a_search_finds_what_options_given_badly_miss(observed: Observations) -> None:
    bad = OPTIONS.changed({"weight_decay": 50.0})

    found = tune(observed, bad, SPACE, TuningOptions(trials=8))

    assert found.best.number > 0
    assert found.options.weight_decay < 50
    before = found.trials[0].validation_rmse
    assert before is not None
    assert found.best.validation_rmse is not None
    assert found.best.validation_rmse < before


def test_the_same_seed_gives_the_same_search_and_another_one_another(observed: Observations) -> None:
    once, again, other = (
        tune(observed, OPTIONS, SPACE, TuningOptions(trials=4, seed=seed)) for seed in (1, 1, 2)
    )

    assert measured(once.trials) == measured(again.trials)
    assert measured(once.trials)[1:] != measured(other.trials)[1:]


@pytest.mark.parametrize("ended_after", [1, 12])
def test_a_killed_search_resumes_to_the_same_result(
    observed: Observations, tmp_path: Path, ended_after: int
) -> None:
    whole = tune(observed, OPTIONS, SPACE, TuningOptions(trials=14))
    file = tmp_path / "trials.json"
    tune(observed, OPTIONS, SPACE, TuningOptions(trials=ended_after), kept_in=file)
    made: list[int] = []

    resumed = tune(
        observed, OPTIONS, SPACE, TuningOptions(trials=14), kept_in=file,
        after_trial=lambda trial: made.append(trial.number),
    )  # fmt: skip

    assert measured(resumed.trials) == measured(whole.trials)
    assert resumed.options == whole.options
    assert made == list(range(ended_after, 14))


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_search_with_the_trials_before(
    observed: Observations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, hopeless = tmp_path / "trials.json", Proposal.is_hopeless

    def interrupt(proposal: Proposal, step: int, rmse: float) -> bool:
        if proposal.number == 2:
            signal.raise_signal(signal.SIGINT)
        return hopeless(proposal, step, rmse)

    with monkeypatch.context() as patch:
        patch.setattr(Proposal, "is_hopeless", interrupt)
        found = tune(observed, OPTIONS, SPACE, TuningOptions(trials=4), kept_in=file)

    assert found.interrupted
    assert len(found.trials) == 2
    resumed = tune(observed, OPTIONS, SPACE, TuningOptions(trials=4), kept_in=file)
    assert measured(resumed.trials) == measured(
        tune(observed, OPTIONS, SPACE, TuningOptions(trials=4)).trials
    )


def test_only_what_the_space_names_is_searched_for(observed: Observations) -> None:
    space = SearchSpace({"depth": (1, 2)})

    found = tune(observed, OPTIONS, space, TuningOptions(trials=5))

    assert {trial.values["depth"] for trial in found.trials} == {1, 2}
    assert found.options.changed({"depth": 2}) == OPTIONS
    assert found.table.column_names == [
        "number", "state", "validation_rmse", "best_step", "steps", "seconds", "depth",
    ]  # fmt: skip


def test_depths_are_searched_for_where_depth_was_to_be_found(observed: Observations) -> None:
    automatic = OPTIONS.changed({"depth": "auto"})
    found = tune(observed, automatic, SearchSpace({"depth": (2, 3)}), TuningOptions(trials=4))
    assert set(found.table["depth"].to_pylist()) <= {2, 3}
    assert found.trials[0].values["depth"] == 2


def test_hopeless_trials_are_pruned_and_only_where_that_is_asked_for(observed: Observations) -> None:
    long = OPTIONS.changed(
        {"evaluate_every": 1, "patience": None, "steps": 120, "initialization": "gaussian"}
    )
    space = SearchSpace({"init_scale": (1e-6, 0.3)})

    pruned = tune(observed, long, space, TuningOptions(trials=16))
    whole = tune(observed, long, space, TuningOptions(trials=16, prune=False))

    assert any(trial.state == "pruned" and trial.steps < 120 for trial in pruned.trials)
    assert all(trial.state == "complete" and trial.steps == 120 for trial in whole.trials)


def test_a_trial_that_diverges_is_no_reason_to_stop(observed: Observations) -> None:
    options = OPTIONS.changed({"optimizer": "sgd", "lr": 0.05, "coordinates": "plain"})
    space = SearchSpace({"init_scale": (1.0, 1e30)})

    found = tune(observed, options, space, TuningOptions(trials=6))

    assert any(trial.state == "diverged" and trial.validation_rmse is None for trial in found.trials)
    assert found.best.state == "complete"


def test_where_all_diverge_there_is_no_result(observed: Observations) -> None:
    options = OPTIONS.changed({"optimizer": "sgd", "lr": 1e30, "coordinates": "plain"})

    with pytest.raises(ValueError, match=r"none of the 2 trials completed"):
        tune(observed, options, SPACE, TuningOptions(trials=2))


def test_no_trial_begins_after_the_time(observed: Observations) -> None:
    assert len(tune(observed, OPTIONS, SPACE, TuningOptions(trials=50, max_seconds=0.0)).trials) == 1


def test_trials_of_another_search_are_refused(observed: Observations, tmp_path: Path) -> None:
    file = tmp_path / "trials.json"
    tune(observed, OPTIONS, SPACE, TuningOptions(trials=1), kept_in=file)

    with pytest.raises(ValueError, match=r"another search: seed of the search was 0 there and is 1 here"):
        tune(observed, OPTIONS, SPACE, TuningOptions(trials=1, seed=1), kept_in=file)
    content = load_record(file, dict[str, Any])
    trial = content["trials"][0]
    for damage in (
        {"trials": [trial | {"number": 1}]},
        {"trials": [trial | {"state": "excellent"}]},
        {"trials": [trial | {"validation_rmse": "0.1"}]},
        {"trials": [trial | {"reports": {"one": 1.0}}]},
        {"trials": [{}]},
        {"trials": 3},
        {"format": 1},
        {"job": None},
        {"more": 1},
    ):
        save_record(file, content | damage)
        with pytest.raises(ValueError, match=r"is not a file of the trials of a search, or is damaged"):
            tune(observed, OPTIONS, SPACE, TuningOptions(trials=1), kept_in=file)


WEIGHTED = [1.0] * 249 + [2.0]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"train": [1.0] * 250}, "train"),
        ({"train": WEIGHTED}, "train"),
        ({"validation": [1.0, 2.0]}, "validation"),
        ({"space": SearchSpace({"hidden": (2, 4), "lr": (0.1, 1.0)})}, "ranges.lr"),
        ({"options": {"weight_decay": 0.2}}, "weight_decay"),
        ({"options": {"steps": 81}}, "steps"),
        ({"options": {"patience": 11}}, "patience"),
        ({"options": {"reduction": "sum"}}, "reduction"),
        ({"tuning": {"prune": False}}, "prune"),
        ({"tuning": {"seed": 1}}, "seed of the search"),
        ({"tuning": {"parallel": 2}}, "parallel"),
    ],
)
def test_whatever_decides_the_trials_makes_another_search(
    observed: Observations, tmp_path: Path, changes: dict[str, Any], name: str
) -> None:
    def search(
        train: Any = None,
        validation: Any = (2.0, 1.0),
        options: Any = None,
        space: Any = None,
        tuning: Any = None,
    ) -> tuple[Any, ...]:
        others = Observations([0, 1], [1, 0], [1.0, 2.0], observed.shape, weights=validation)
        given = observed.with_values(observed.values, train)
        found = tune(
            given,
            OPTIONS.changed({"steps": 2} | (options or {})),
            space or SearchSpace({"hidden": (2, 4)}),
            TuningOptions(trials=1, **(tuning or {})),
            validation=others,
            kept_in=tmp_path / "trials.json",
        )
        return measured(found.trials)

    first = search()
    assert search() == first
    with pytest.raises(ValueError, match=f"belongs to another search: {name} was"):
        search(**changes)


@pytest.mark.parametrize("changes", [{"checkpoint_every": 3}, {"singular_values": 2}, {"refit": False}])
def test_what_does_not_change_the_trials_resumes_the_search(
    observed: Observations, tmp_path: Path, changes: dict[str, Any]
) -> None:
    file, ended = tmp_path / "trials.json", []
    tune(observed, OPTIONS.changed({"steps": 2}), SPACE, TuningOptions(trials=1), kept_in=file)
    tune(
        observed, OPTIONS.changed({"steps": 2} | changes), SPACE, TuningOptions(trials=2, max_seconds=60.0),
        kept_in=file, after_trial=ended.append,
    )  # fmt: skip
    assert [trial.number for trial in ended] == [1]


def kept(observed: Observations, file: Path, *ends: tuple[str, float | None]) -> TuningResult:
    """Return what a search finds whose trials ended so, without making one."""
    options = OPTIONS.changed({"steps": 2})
    tune(observed, options, SPACE, TuningOptions(trials=1), kept_in=file)
    content = load_record(file, dict[str, Any])
    (first,) = content["trials"]
    content["trials"] = [
        first | {"number": number, "state": state, "validation_rmse": rmse}
        for number, (state, rmse) in enumerate(ends)
    ]
    save_record(file, content)
    return tune(observed, options, SPACE, TuningOptions(trials=len(ends)), kept_in=file)


def test_the_best_is_the_first_of_the_complete_trials_with_the_least_error(
    observed: Observations, tmp_path: Path
) -> None:
    ends = [("complete", 0.9), ("diverged", None), ("pruned", 0.1), ("complete", 0.8), ("complete", 0.8)]

    found = kept(observed, tmp_path / "trials.json", *ends)

    assert (found.best.number, found.best.validation_rmse) == (3, 0.8)
    assert not found.interrupted
    assert [
        tuple(row[name] for name in ("number", "state", "validation_rmse")) for row in found.table.to_pylist()
    ] == [(number, *end) for number, end in enumerate(ends)]


def test_trials_that_were_pruned_or_diverged_are_no_result(observed: Observations, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of the 2 trials"):
        kept(observed, tmp_path / "trials.json", ("diverged", None), ("pruned", 0.5))


def test_a_report_is_the_first_row_of_its_step_and_its_error(observed: Observations) -> None:
    (trial,) = tune(
        observed, OPTIONS.changed({"depth": 3, "steps": 6}), SPACE, TuningOptions(trials=1)
    ).trials
    completed = complete_matrix(observed, OPTIONS.changed({"depth": 3, "steps": 6, "refit": False}))
    assert len(completed.search) > 1
    rows = completed.history.table.to_pylist()
    expected: dict[int, float] = {}
    for row in rows:
        expected.setdefault(row["step"], row["validation_rmse"])
    assert trial.reports == expected
    assert (trial.steps, trial.best_step) == (completed.steps, completed.best_step)


def test_a_search_makes_forty_trials_over_the_ranges_for_ratings_by_default() -> None:
    assert TuningOptions() == TuningOptions(
        trials=40, max_seconds=None, seed=0, prune=True, parallel=1, journal=None
    )
    assert SearchSpace().ranges == {
        "weight_decay": (0.02, 1.0),
        "bias_weight_decay": (0.002, 1.0),
        "degree_exponent": (0.0, 1.0),
        "hidden": (16, 32, 64, 128),
    }


@pytest.mark.parametrize(
    ("changes", "prune", "warm_up"),
    [
        ({"evaluate_every": 2}, True, 50),
        ({"evaluate_every": 1}, True, 25),
        ({"evaluate_every": None}, True, 25),
        ({"evaluate_every": 2}, False, None),
    ],
)
def test_a_trial_has_twenty_five_rows_before_it_can_be_pruned(
    observed: Observations,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    prune: bool,
    warm_up: int | None,
) -> None:
    given: list[int | None] = []

    def noted(*arguments: Any, **more: Any) -> Proposal:
        given.append(arguments[-1])
        return propose(*arguments, **more)

    monkeypatch.setattr(search, "propose", noted)
    tune(observed, OPTIONS.changed({"steps": 2} | changes), SPACE, TuningOptions(trials=1, prune=prune))
    assert given == [warm_up]


def test_trials_show_no_bars(observed: Observations, capfd: pytest.CaptureFixture[str]) -> None:
    options = OPTIONS.changed({"steps": 2})
    tune(observed, replace(options, fit=replace(options.fit, progress=True)), SPACE, TuningOptions(trials=1))
    assert capfd.readouterr() == ("", "")


def test_a_width_that_is_found_cannot_be_compared_among_trials(observed: Observations) -> None:
    plain = OPTIONS.changed({"coordinates": "plain", "bias": False, "depth": 2, "hidden": "auto"})
    with pytest.raises(ValueError, match="`hidden` in `options` must be a number, got 'auto'"):
        tune(observed, plain, SPACE, TuningOptions(trials=1))


def test_bad_arguments_are_refused(observed: Observations) -> None:
    with pytest.raises(ValueError, match="`space` must have at least one option"):
        tune(observed, OPTIONS, SearchSpace({}))
    with pytest.raises(ValueError, match="`validation` must hold entries"):
        tune(observed, replace(OPTIONS, validation_fraction=0.0))
    with pytest.raises(ValueError, match="`trials` must be at least 1"):
        TuningOptions(trials=0)


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        ({"weight_decay": (1.0, 0.1)}, r"`weight_decay` must have a range \(lowest, highest\)"),
        ({"degree_exponent": (0.0, 2.0)}, "`degree_exponent` .* at most 1, got 2"),
        ({"weight_decay": (0.0, 0.1)}, "`weight_decay` must have a range above 0"),
        ({"hidden": ()}, "`hidden` must have choices, got none"),
        ({"hidden": (0, 8)}, "`hidden` must be at least 1, got 0"),
        ({"optimizer": ("adam", "sdg")}, "`optimizer` must be one of"),
        ({"width": (1, 2)}, "`width` must be an option of CompletionOptions"),
    ],
)
def test_a_space_outside_the_bounds_of_the_options_is_refused(
    ranges: dict[str, tuple[Any, ...]], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        SearchSpace(ranges)
