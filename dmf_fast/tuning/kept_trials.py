"""The trials of a search in one process: which come next, in batches of those that run at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dmf_fast.tuning.proposal import Proposal
from dmf_fast.tuning.trial import TuningTrial, load_trials, save_trials


class Propose(Protocol):
    """Makes a proposal of trials that have ended and values of trials under way."""

    def __call__(
        self, number: int, ended: Sequence[TuningTrial], running: Sequence[Mapping[str, Any]]
    ) -> Proposal:
        """Return the proposal of this number."""
        ...


class SearchTrials(Protocol):
    """Where a search takes its trials from and brings them to."""

    @property
    def ended(self) -> list[TuningTrial]:
        """Those that have ended, by number."""
        ...

    def ask(self, propose: Propose) -> list[Proposal]:
        """Return what is to be run at once; nothing where others run all that is left."""
        ...

    def tell(self, trial: TuningTrial) -> None:
        """Keep a trial that was asked for."""
        ...


class KeptTrials:
    """Trials that one process runs in batches, in a file where there is one.

    What a batch proposes depends on the batches before: it is the same whichever of its trials ends first.
    """

    def __init__(self, path: Path | None, job: dict[str, Any], trials: int, parallel: int) -> None:
        self._path, self._job, self._trials, self._parallel = path, job, trials, parallel
        self._ended = {trial.number: trial for trial in ([] if path is None else load_trials(path, job))}

    @property
    def ended(self) -> list[TuningTrial]:
        """Those that have ended, by number."""
        return [self._ended[number] for number in sorted(self._ended)]

    def ask(self, propose: Propose) -> list[Proposal]:
        """Return those of the next batch that have not ended."""
        first = next(number for number in range(self._trials) if number not in self._ended)
        begun = first // self._parallel * self._parallel
        before = [self._ended[number] for number in range(begun)]
        running: list[Mapping[str, Any]] = []
        asked = []
        for number in range(begun, min(begun + self._parallel, self._trials)):
            if number in self._ended:
                running.append(self._ended[number].values)
                continue
            proposal = propose(number, before, list(running))
            running.append(proposal.values)
            asked.append(proposal)
        return asked

    def tell(self, trial: TuningTrial) -> None:
        """Keep a trial, on the disk where there is a file."""
        self._ended[trial.number] = trial
        if self._path is not None:
            save_trials(self._path, self._job, self.ended)
