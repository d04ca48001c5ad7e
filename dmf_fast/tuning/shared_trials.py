"""The trials of a search that several machines share: an Optuna journal and a folder of locks.

::

    study.journal                 the Optuna journal: all trials, including running ones
    study.journal.locks/study/    locked while trials are asked for or told
                        3f2a…/    locked by a process while it participates

A running trial whose process does not hold its lock was abandoned, and its number is free again.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec

from dmf_fast.completion import CompletionOptions
from dmf_fast.files.atomic import make_folder
from dmf_fast.files.identity import plain
from dmf_fast.files.lock import InUseError, locked
from dmf_fast.files.reading import reading
from dmf_fast.tuning.kept_trials import Propose
from dmf_fast.tuning.proposal import Proposal, silent, state_of, under_way
from dmf_fast.tuning.search_space import SearchSpace
from dmf_fast.tuning.trial import TuningTrial, check_job

_NAME = "dmf_fast"
_KIND, _ADVICE = "a journal of the trials of a search", "remove it"
_PAUSE = 0.02
# Optuna's own lock, which other programs respect, is broken after this many seconds if its holder was killed.
_GRACE_PERIOD = 5


class _Begun(msgspec.Struct):
    """The attributes of a running trial: its number, and the name of the lock of its process."""

    number: Annotated[int, msgspec.Meta(ge=0)]
    process: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class SharedTrials:
    """Trials in a journal; see `shared_trials`."""

    def __init__(self, journal: Path, job: dict[str, Any], space: dict[str, Any], trials: int, parallel: int):
        self._journal, self._job, self._space = journal, job, space
        self._trials, self._parallel = trials, parallel
        self._process = uuid.uuid4().hex
        self._asked: dict[int, int] = {}
        with self._held_study():
            self._storage, self._study = self._opened()

    @property
    def locks(self) -> Path:
        """The folder of the locks."""
        return self._journal.with_name(f"{self._journal.name}.locks")

    @property
    def own_lock(self) -> Path:
        """The folder that this process locks while it participates."""
        return self.locks / self._process

    @property
    def ended(self) -> list[TuningTrial]:
        """Trials that have ended in any process, by number."""
        with reading(self._journal, _KIND, _ADVICE):
            trials = [
                msgspec.convert(trial.user_attrs["trial"], TuningTrial, str_keys=True)
                for trial in self._study.get_trials(deepcopy=False)
                if trial.state.is_finished() and "trial" in trial.user_attrs
            ]
        found = {trial.number: trial for trial in reversed(trials)}
        return [found[number] for number in range(self._trials) if number in found]

    def ask(self, propose: Propose) -> list[Proposal]:
        """Claim free trial numbers, as many as run at once, and return their proposals."""
        with self._held_study():
            ended = self.ended
            running = self._under_way()
            taken = {trial.number for trial in ended} | running.keys()
            free = [number for number in range(self._trials) if number not in taken]
            asked = []
            for number in free[: self._parallel]:
                proposal = propose(number, ended, list(running.values()))
                running[number] = proposal.values
                self._begin(proposal)
                asked.append(proposal)
        return asked

    def tell(self, trial: TuningTrial) -> None:
        """Store a finished trial in the journal."""
        import optuna

        place = self._asked.pop(trial.number)
        # A machine that seemed dead may come back; others have repeated its trials.
        with self._held_study(), suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(place, "trial", plain(asdict(trial)))
            values = None if trial.validation_rmse is None else [trial.validation_rmse]
            self._storage.set_trial_state_values(place, state_of(trial), values)

    def _begin(self, proposal: Proposal) -> None:
        facts = _Begun(proposal.number, self._process)
        self._study.add_trial(under_way(proposal.values, self._space, msgspec.to_builtins(facts)))
        self._asked[proposal.number] = self._study.get_trials(deepcopy=False)[-1]._trial_id

    def _under_way(self) -> dict[int, dict[str, Any]]:
        """Return the values of running trials by number, and fail those that were abandoned."""
        import optuna

        with reading(self._journal, _KIND, _ADVICE):
            begun = [
                (trial, msgspec.convert(trial.user_attrs, _Begun))
                for trial in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
            ]
        found = {}
        for trial, facts in begun:
            if self._takes_part(facts.process):
                found[facts.number] = dict(trial.params)
            else:
                self._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
        return found

    def _takes_part(self, process: str) -> bool:
        lock = self.locks / process
        if process == self._process or not lock.exists():
            return process == self._process
        try:
            with locked(lock):
                shutil.rmtree(lock, ignore_errors=True)
        except InUseError:
            return True
        return False

    def _opened(self) -> tuple[Any, Any]:
        """Return the storage and its study, creating the study if it does not exist."""
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        name = str(self._journal)
        lock = JournalFileOpenLock(name, grace_period=_GRACE_PERIOD)  # more portable than symbolic links
        with reading(self._journal, _KIND, _ADVICE), silent():
            storage = optuna.storages.JournalStorage(JournalFileBackend(name, lock_obj=lock))
            study = optuna.create_study(
                storage=storage, study_name=_NAME, direction="minimize", load_if_exists=True
            )
            kept = msgspec.convert(study.user_attrs.get("job"), dict[str, Any] | None)
        if kept is None:
            study.set_user_attr("job", plain(self._job))
        else:
            check_job(self._journal, kept, self._job)
        return storage, study

    @contextmanager
    def _held_study(self) -> Iterator[None]:
        """Lock the study, so that no other process asks or tells."""
        with ExitStack() as stack:
            while not _entered(stack, self.locks / "study"):
                time.sleep(_PAUSE)
            _remove_torn_line(self._journal)
            yield


@contextmanager
def shared_trials(
    journal: Path,
    job: dict[str, Any],
    start: CompletionOptions,
    space: SearchSpace,
    *,
    trials: int,
    parallel: int,
) -> Iterator[SharedTrials]:
    """Participate in a search that several processes share.

    Raises a `ValueError` if the journal is damaged or of another job, and `OSError`.

    Args:
        journal: the shared file, which is created.
        job: what must agree between all participants.
        start: the options of the first trial.
        space: the search space.
        trials: total number of trials.
        parallel: number of trials that this process runs at once.

    """
    make_folder(journal.parent)
    shared = SharedTrials(journal, plain(job), space.distributions(start), trials, parallel)
    with locked(shared.own_lock):
        try:
            yield shared
        finally:
            shutil.rmtree(shared.own_lock, ignore_errors=True)


def _entered(stack: ExitStack, folder: Path) -> bool:
    try:
        stack.enter_context(locked(folder))
    except InUseError:
        return False
    return True


def _remove_torn_line(journal: Path) -> None:
    """Remove an incomplete last line of a killed process, which would corrupt the next one."""
    if not journal.exists():
        return
    with journal.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
