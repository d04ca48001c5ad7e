"""Trials: their names and arguments, and what happens to the others if one fails."""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.training import FitOptions, Recording, Trial, TrialError, Trials, fit_many
from dmf_fast.training.run import Run
from dmf_fast.training.trial_files import checkpoint_of
from tests import assertions
from tests.assertions import assert_equal

TRAIN = Observations([0, 1, 2], [0, 1, 2], [1.0, 2.0, 3.0], (3, 3))


def trial(labels: dict[str, Any], **changes: Any) -> Trial:
    plain = Trial(labels, [torch.eye(3)], TRAIN, partial(torch.optim.SGD, lr=0.1), FitOptions(steps=20))
    return replace(plain, **changes)


def assert_same(one: Trials, other: Trials) -> None:
    for first, second in zip(one.results, other.results, strict=True):
        assertions.assert_same((first.factors, first.result), (second.factors, second.result))


@pytest.mark.parametrize(
    "factors",
    [
        [torch.arange(9.0).reshape(3, 3).T / 9],
        [torch.ones(1, 3).T, torch.ones(3, 1).T][::-1],
        [torch.ones(6, 3)[::2, :1].T, torch.ones(3, 6)[:, ::6]],
    ],
)
def test_starts_of_any_strides_are_kept_in_a_folder(factors: list[Tensor], tmp_path: Path) -> None:
    given = [trial({"seed": 0}, factors=factors)]
    ended = fit_many(given, folder=tmp_path)
    assert_equal(ended.results[0].factors, fit_many(given).results[0].factors)
    assert_same(fit_many(given, folder=tmp_path), ended)
    alike = [trial({"seed": 0}, factors=[factor.clone() for factor in factors])]
    assert alike[0].key() == given[0].key()


def test_leftovers_of_a_killed_process_next_to_a_result_are_removed(tmp_path: Path) -> None:
    given = [trial({"seed": 0})]
    fit_many(given, folder=tmp_path)
    whole = {path.name for path in tmp_path.iterdir()}
    (kept,) = tmp_path.glob("trial-*")
    (checkpoint_of(kept) / "version-1").mkdir(parents=True)
    (tmp_path / f".{socket.gethostname()}-{2**30}-0.{kept.name}.partial").mkdir()  # of a process that is gone

    fit_many(given, folder=tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == whole


def test_numbers_of_numpy_are_those_of_python(tmp_path: Path) -> None:
    labels = {"seed": np.int64(3), "scale": np.float32(0.5), "kind": np.str_("a"), "on": np.bool_(True)}
    options = FitOptions(steps=np.int64(20), max_seconds=np.float32(60), train_loss_threshold=np.float32(0))
    of_numpy = trial(labels, options=options, recording=Recording(every=np.int32(5)))
    plain = trial(
        {"seed": 3, "scale": 0.5, "kind": "a", "on": True},
        options=FitOptions(steps=20, max_seconds=60.0, train_loss_threshold=0.0),
        recording=Recording(every=5),
    )
    ended = fit_many([of_numpy], folder=tmp_path)
    assert_same(fit_many([plain], folder=tmp_path), ended)
    (summary,) = tmp_path.glob("trial-*/summary.json")
    assert json.loads(summary.read_text())["labels"] == plain.labels


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"seed": None}, "the label `seed` must be a number or a string, got None"),
        ({"seed": [1]}, r"the label `seed` must be a number or a string, got \[1\]"),
        ({3: 1}, "the names of `labels` must be strings, got 3"),
    ],
)
def test_an_invalid_label_is_named(labels: dict[Any, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        trial(labels)


def test_a_label_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match=f"the label `seed` must fit into 64 bits, got {2**63}"):
        trial({"seed": 2**63})
    assert trial({"seed": 2**63 - 1}).labels == {"seed": 2**63 - 1}


def test_labels_are_those_of_when_the_trial_was_made() -> None:
    labels = {"seed": 0}
    given = trial(labels)
    labels["seed"] = 1
    assert given.labels == {"seed": 0}


@pytest.mark.parametrize(
    "name",
    ["step", "seconds", "train_loss", "test_rmse", "optimizer", "stopped_because", "best_step", "betas_1"],
)
def test_a_label_may_not_hide_a_column(name: str) -> None:
    given = [trial({"seed": 0}, optimizer=torch.optim.Adam), trial({name: 0.5})]
    with pytest.raises(
        ValueError, match=rf"`trials\[1\]` must not have a label .*, got '{name}' = 0.5; choose another name"
    ):
        fit_many(given)


def test_a_label_may_repeat_an_option_of_the_optimizer_and_nothing_else_of_that_name() -> None:
    given = [trial({"lr": lr}, optimizer=partial(torch.optim.SGD, lr=lr)) for lr in (0.1, 0.2)]
    assert fit_many(given).summary()["lr"].to_pylist() == [0.1, 0.2]
    with pytest.raises(ValueError, match=r"`trials\[0\]` must not have a label .*, got 'lr' = 0.3"):
        fit_many([trial({"lr": 0.3})])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((1, "a"), "got 1 and 'a'"),
        (("a", 0.5), "got 'a' and 0.5"),
        ((True, 1.5), "got True and 1.5"),
        ((2**60 + 1, 0.5), "got 1152921504606846977 and 0.5"),
    ],
)
def test_labels_that_cannot_stand_in_one_column_are_refused(values: tuple[Any, Any], words: str) -> None:
    given = [trial({"kind": value, "place": place}) for place, value in enumerate(values)]
    with pytest.raises(ValueError, match=f"the label `kind` must have one type in all trials, .* {words}"):
        fit_many(given)


def test_labels_may_be_missing_and_integers_may_be_mixed_with_floats() -> None:
    given = [trial({"scale": 1}), trial({"scale": 0.5, "seed": 3}), trial({"seed": 4})]
    ended = fit_many(given)
    for table in (ended.summary(), ended.history()):
        assert list(dict.fromkeys(table["scale"].to_pylist())) == [1.0, 0.5, None]
        assert list(dict.fromkeys(table["seed"].to_pylist())) == [None, 3, 4]


def test_trials_may_come_from_a_generator() -> None:
    ended = fit_many(trial({"seed": seed}) for seed in range(3))
    assert [one.trial.labels["seed"] for one in ended.results] == [0, 1, 2]


def test_an_invalid_trial_is_named() -> None:
    with pytest.raises(TypeError, match=r"`trials\[1\]` must be a Trial, got dict"):
        fit_many([trial({}), {}])  # type: ignore[list-item]


def test_an_optimizer_that_is_bound_to_parameters_is_refused() -> None:
    bound = torch.optim.SGD([torch.eye(3, requires_grad=True)], lr=0.1)
    with pytest.raises(
        TypeError,
        match=r"`optimizer` must be a callable that makes .*functools.partial\(SGD, .*, got one that is",
    ):
        trial({}, optimizer=bound)


def test_patience_of_a_trial_needs_its_validation_set() -> None:
    with pytest.raises(ValueError, match=r"`trials\[0\]`: `patience` must be None"):
        fit_many([trial({}, options=FitOptions(patience=3))])


FAILS = FitOptions(steps=21)
ENDLESS = FitOptions(steps=10**12, max_seconds=1000.0)  # or it would hang where it is not stopped
MODULE = sys.modules[fit_many.__module__]


def fail_in(holder: Any, name: str, monkeypatch: pytest.MonkeyPatch, folder: Path | None = None) -> None:
    """Have a function fail for the trial whose options are FAILS, once two others are in ``folder``."""
    function = getattr(holder, name)

    def failing(given: Any, *arguments: Any) -> Any:
        if getattr(given, "trial", given).options == FAILS:
            end = time.monotonic() + 600
            while folder is not None and len(list(folder.glob("trial-*/summary.json"))) < 2:
                assert time.monotonic() < end, "the trials before have not ended within ten minutes"
                time.sleep(0.001)
            raise LookupError("not mine")
        return function(given, *arguments)

    monkeypatch.setattr(holder, name, failing)


@pytest.mark.parametrize(
    ("name", "holder"),
    [("key", Trial), ("load_result", MODULE), ("keep_result", MODULE), ("train_until_done", Run)],
)
def test_a_trial_that_fails_is_named_and_stops_the_others(
    name: str, holder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [trial({"seed": seed}) for seed in (0, 1)] + [trial({"seed": 2}, options=FAILS)]
    if name == "load_result":
        fit_many(given, folder=tmp_path)
    fail_in(holder, name, monkeypatch, folder=tmp_path)
    endless = [trial({"seed": seed}, options=ENDLESS, recording=Recording(every=10**9)) for seed in (3, 4)]
    with pytest.raises(
        TrialError, match=r"^trials\[2\] .*'seed': 2.* failed: LookupError: not mine"
    ) as error:
        fit_many([*given, *endless], folder=tmp_path, workers=2)
    assert isinstance(error.value.__cause__, LookupError)
    assert [one.trial.labels["seed"] for one in error.value.ended.results] == [0, 1]


def test_results_are_there_without_a_folder_when_a_trial_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [trial({"seed": 0}), trial({"seed": 2}, options=FAILS)]
    whole = fit_many(given[:1])
    fail_in(Run, "train_until_done", monkeypatch)
    with pytest.raises(TrialError, match=r"trials\[1\]") as error:
        fit_many(given, workers=1)
    assert error.value.ended.summary().num_rows == 1
    assert_equal(error.value.ended.results[0].factors, whole.results[0].factors)
