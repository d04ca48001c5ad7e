"""A folder of trials that several processes share: each trial runs once, and all get the same table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from dmf_fast.files.lock import locked
from dmf_fast.training import TrialError, fit_many
from dmf_fast.training.trial_files import checkpoint_of, folder_of, held_trial, keep_result
from tests.killing import ROOT, assert_runs
from tests.training.test_fit_many import assert_same, trials

# Every process appends a line to a log when it begins a trial, and waits at first until all are there.
SHARED = """
import os, sys, time
from pathlib import Path
import pyarrow.parquet as pq
import torch
torch.set_num_threads(1)
from dmf_fast.training import fit_many
from tests.training.test_fit_many import trials
module = sys.modules[fit_many.__module__]
root, many = Path({root!r}), {many}
make_run = module.make_run

def logged(*arguments, **more):
    with (root / "log").open("a") as log:
        log.write(f"{{os.getpid()}} {{more['checkpoint'].name}}\\n")
    if not {kill}:
        while len({{line.split()[0] for line in (root / "log").read_text().splitlines()}}) < many:
            time.sleep(0.01)  # a machine with one core to spare would run one process after the other
    elif number == 0:
        time.sleep(3600)  # it is killed meanwhile
    return make_run(*arguments, **more)

module.make_run = logged
given = trials(3000)
children = []
for number in range(many):
    child = os.fork()
    if child == 0:
        ended = fit_many(given, folder=root / "grid", workers=1)
        pq.write_table(ended.history(), root / f"history-{{number}}.parquet")
        pq.write_table(ended.summary(), root / f"summary-{{number}}.parquet")
        os._exit(0)
    children.append(child)
    while {kill} and not ((root / "log").exists() and (root / "log").read_text()):
        time.sleep(0.01)
if {kill}:
    os.kill(children[0], 9)
statuses = [os.waitpid(child, 0)[1] for child in children]
assert statuses == ([9] if {kill} else [0]) + [0] * (many - 1), statuses
"""


@pytest.mark.parametrize("many", [2, 4])
def test_processes_that_share_a_folder_run_every_trial_once_and_have_one_table(
    tmp_path: Path, many: int
) -> None:
    assert_runs(SHARED.format(root=str(tmp_path), many=many, kill=False))

    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    processes, begun = {line[0] for line in lines}, [line[1] for line in lines]
    assert sorted(begun) == sorted(checkpoint_of(folder_of(one, tmp_path)).name for one in trials(3000))
    assert len(processes) == many
    assert_one_table(tmp_path, range(many))
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {
        folder_of(one, tmp_path).name for one in trials(3000)
    }


def test_what_a_killed_process_held_is_run_by_the_others(tmp_path: Path) -> None:
    assert_runs(SHARED.format(root=str(tmp_path), many=3, kill=True))

    begun = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert len(begun) == len(set(begun)) + 1 == len(trials()) + 1
    assert begun.count(begun[0]) == 2
    assert_one_table(tmp_path, range(1, 3))


def assert_one_table(root: Path, numbers: range) -> None:
    """Fail where processes have not all the same tables, seconds included, and the numbers of one process."""
    kept, alone = fit_many(trials(3000), folder=root / "grid"), fit_many(trials(3000), workers=1)
    assert_same(kept, alone)
    for number in numbers:
        assert pq.read_table(root / f"history-{number}.parquet").equals(kept.history())
        assert pq.read_table(root / f"summary-{number}.parquet").equals(kept.summary())


HOLD = """
import signal, sys
from pathlib import Path
from dmf_fast.training.trial_files import held_trial
with held_trial(Path({folder!r})):
    print("held", flush=True)
    signal.pause()
"""


def test_a_trial_that_another_holds_is_waited_for_after_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = trials()[:3]
    (first, *_), folder = fit_many(given[:1]).results, folder_of(given[0], tmp_path)
    module = sys.modules[fit_many.__module__]
    monkeypatch.setattr(module._Team, "_wait", lambda team, seconds: publish())
    with locked(checkpoint_of(folder)):

        def publish() -> None:
            assert len(list(tmp_path.glob("trial-*/summary.json"))) == 2
            keep_result(first, folder)

        ended = fit_many(given, folder=tmp_path, workers=1)
    assert_same(ended, fit_many(given))
    assert ended.results[0].result.seconds == first.result.seconds


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_wait_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trials()[:3]
    module = sys.modules[fit_many.__module__]
    waits = module._Team._wait

    def interrupted(team: object, seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        waits(team, seconds)

    monkeypatch.setattr(module._Team, "_wait", interrupted)
    with locked(checkpoint_of(folder_of(given[1], tmp_path))):
        ended = fit_many(given, folder=tmp_path, workers=2)
    assert [one.trial.labels["seed"] for one in ended.results] == [0, 0]


def test_a_killed_process_releases_its_trial(tmp_path: Path) -> None:
    given = trials()[:2]
    command = [sys.executable, "-c", HOLD.format(folder=str(folder_of(given[0], tmp_path)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(ValueError, match="is in use by another run"):
                held_trial(folder_of(given[0], tmp_path)).__enter__()
        finally:
            other.kill()
        ended = fit_many(given, folder=tmp_path, workers=1)
    assert_same(ended, fit_many(given))


def test_a_trial_that_fails_elsewhere_fails_here_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*arguments: object, **more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules[fit_many.__module__], "make_run", out_of_memory)
    for _ in range(2):
        with pytest.raises(TrialError, match=r"trials\[0\] .* failed: MemoryError"):
            fit_many(trials()[:1], folder=tmp_path)
    monkeypatch.undo()
    assert_same(fit_many(trials()[:1], folder=tmp_path), fit_many(trials()[:1]))
    assert torch.get_num_threads() == 1
