"""A search that several processes share through a journal: each trial runs once, and all of them run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from dmf_fast import Observations
from dmf_fast.completion import CompletionOptions, complete_matrix
from dmf_fast.experiments import low_rank_problem
from dmf_fast.tuning import SearchSpace, TuningOptions, tune
from tests.killing import assert_runs

OPTIONS = CompletionOptions.of(
    {"depth": 2, "hidden": 4, "steps": 80, "evaluate_every": 2, "patience": 10, "validation_fraction": 0.2}
)
SPACE = SearchSpace().changed(hidden=(2, 4))


def problem() -> Observations:
    """Return a noisy matrix of rank 2."""
    return low_rank_problem(30, 20, 2, 250, seed=0, noise=0.3).train


def shared(journal: Path, trials: int = 6, parallel: int = 1, **more: Any) -> TuningOptions:
    return TuningOptions(trials=trials, parallel=parallel, journal=journal, **more)


def load(journal: Path) -> optuna.Study:
    """Return the study as other programs read it."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name="dmf_fast", storage=storage)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Path]:
    """Where the journal is; only the locks may lie beside it."""
    yield tmp_path / "shared" / "study.journal"
    names = {path.name for path in (tmp_path / "shared").iterdir()}
    assert names <= {"study.journal", "study.journal.locks"}


SHARED = """
import json, os, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from dmf_fast.tuning import tune
from dmf_fast.tuning.proposal import Proposal
from tests.tuning.test_shared_study import OPTIONS, SPACE, problem, shared
root, hopeless, begun = Path({root!r}), Proposal.is_hopeless, set()

def logged(proposal, step, rmse):
    if proposal.number not in begun:
        begun.add(proposal.number)
        with (root / "log").open("a") as log:
            log.write(f"{{os.getpid()}} {{proposal.number}}\\n")
        lines = []
        while len({{line.split()[0] for line in lines}}) < {many}:
            time.sleep(0.01)  # until all take part
            lines = (root / "log").read_text().splitlines()
        if {kill} and os.getpid() == int(lines[0].split()[0]):
            os.kill(os.getpid(), 9)
    return hopeless(proposal, step, rmse)

Proposal.is_hopeless = logged
children = []
for number in range({many}):
    children.append(os.fork())
    if children[-1] == 0:
        made = []
        found = tune(
            problem(), OPTIONS, SPACE, shared(root / "shared" / "study.journal", parallel={parallel}),
            after_trial=lambda trial: made.append(trial.number),
        )
        assert {kill} or sorted(made) == made
        (root / f"found-{{number}}").write_text(repr(found))
        os._exit(0)
statuses = [os.waitpid(child, 0)[1] for child in children]
assert sorted(statuses) == [0] * ({many} - {kill}) + [9] * {kill}, statuses
"""


@pytest.mark.parametrize(("many", "parallel"), [(2, 1), (2, 2)])
def test_processes_that_share_a_journal_make_each_trial_once_and_find_the_same(
    tmp_path: Path, journal: Path, many: int, parallel: int
) -> None:
    assert_runs(SHARED.format(root=str(tmp_path), many=many, parallel=parallel, kill=0))

    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(int(number) for _, number in lines) == list(range(6))
    assert len({process for process, _ in lines}) == many
    found = {(tmp_path / f"found-{number}").read_text() for number in range(many)}
    assert len(found) == 1
    again = tune(problem(), OPTIONS, SPACE, shared(journal))
    assert {repr(again)} == found
    plain = complete_matrix(problem(), OPTIONS.changed({"refit": False}))
    assert again.trials[0].validation_rmse == plain.validation_rmse


def test_the_trial_of_a_killed_process_is_made_by_another(tmp_path: Path, journal: Path) -> None:
    assert_runs(SHARED.format(root=str(tmp_path), many=2, parallel=1, kill=1))

    numbers = [int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(numbers) == sorted([*range(6), numbers[0]])
    found = tune(problem(), OPTIONS, SPACE, shared(journal))
    assert [one.number for one in found.trials] == list(range(6))
    assert [path.name for path in (journal.with_name("study.journal.locks")).iterdir()] == ["study"]


def test_another_process_continues_what_one_has_left(journal: Path) -> None:
    tune(problem(), OPTIONS, SPACE, shared(journal, trials=2))
    made: list[int] = []

    found = tune(
        problem(), OPTIONS, SPACE, shared(journal, trials=5, parallel=2),
        after_trial=lambda trial: made.append(trial.number),
    )  # fmt: skip

    assert made == [2, 3, 4]
    assert [one.number for one in found.trials] == [0, 1, 2, 3, 4]
    assert len(tune(problem(), OPTIONS, SPACE, shared(journal, trials=3)).trials) == 3


def test_tools_of_optuna_read_the_journal(journal: Path) -> None:
    found = tune(problem(), OPTIONS, SPACE, shared(journal))

    study = load(journal)
    assert study.best_value == found.best.validation_rmse
    assert study.best_params == found.best.values


def test_a_journal_of_another_search_is_refused(journal: Path) -> None:
    tune(problem(), OPTIONS, SPACE, shared(journal, trials=1))
    with pytest.raises(ValueError, match="belongs to another search: seed of the search was 0 there and is"):
        tune(problem(), OPTIONS, SPACE, shared(journal, trials=1, seed=1))
    with pytest.raises(ValueError, match="belongs to another search: steps was 80 there and is 81 here"):
        tune(problem(), OPTIONS.changed({"steps": 81}), SPACE, shared(journal, trials=1))


@pytest.mark.parametrize("harm", ["nonsense", "a trial that is none", "numbers"])
def test_a_damaged_journal_is_refused(journal: Path, harm: str) -> None:
    tune(problem(), OPTIONS, SPACE, shared(journal, trials=2))
    lines = journal.read_text().splitlines()
    if harm == "nonsense":
        lines[1] = "{"
    elif harm == "a trial that is none":
        lines = [line.replace('"validation_rmse"', '"rmse"') for line in lines]
    else:
        lines = [json.dumps([number]) for number in range(len(lines))]
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="is not a journal of the trials of a search, or is damaged"):
        tune(problem(), OPTIONS, SPACE, shared(journal, trials=2))


def test_a_line_that_a_kill_has_torn_is_no_harm(journal: Path) -> None:
    tune(problem(), OPTIONS, SPACE, shared(journal, trials=2))
    text = journal.read_text()
    for torn in (text + '{"op_code"', text[:-3], text + "\0"):
        journal.write_text(torn)
        tune(problem(), OPTIONS, SPACE, shared(journal, trials=3))
        assert len(tune(problem(), OPTIONS, SPACE, shared(journal, trials=3)).trials) == 3


@pytest.mark.parametrize("process", ["", "../precious", "x" * 32, 3, None])
def test_a_journal_cannot_name_what_is_no_lock(journal: Path, process: object) -> None:
    tune(problem(), OPTIONS, SPACE, shared(journal, trials=1))
    precious = journal.parent / "study.journal.locks" / "precious"
    study = load(journal)
    facts = {"number": 1, "process": process}
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, user_attrs=facts))
    precious.mkdir()
    with pytest.raises(ValueError, match="is not a journal of the trials of a search, or is damaged"):
        tune(problem(), OPTIONS, SPACE, shared(journal, trials=3))
    assert precious.exists()
