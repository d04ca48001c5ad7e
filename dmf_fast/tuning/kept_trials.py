"""The trials of a search in one process, in batches of concurrent trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dmf_fast.tuning.proposal import Proposal
from dmf_fast.tuning.trial import TuningTrial, load_trials, save_trials


class Propose(Protocol):
    """Makes a proposal from finished trials and the values of running trials."""

    def __call__(
        self, number: int, ended: Sequence[TuningTrial], running: Sequence[Mapping[str, Any]]
    ) -> Proposal:
        """Return proposal ``number``."""
        ...


class SearchTrials(Protocol):
    """The store of the trials of a search."""

    @property
    def ended(self) -> list[TuningTrial]:
        """Finished trials, by number."""
        ...

    def ask(self, propose: Propose) -> list[Proposal]:
        """Return the trials to run next, at once; none if others run all that are left."""
        ...

    def tell(self, trial: TuningTrial) -> None:
        """Store a trial that `ask` returned."""
        ...


class KeptTrials:
    """Trials that a single process runs in batches, stored in a file if a path is given.

    The proposals of a batch depend only on earlier batches, not on the order in which its trials end.
    """

    def __init__(self, path: Path | None, job: dict[str, Any], trials: int, parallel: int) -> None:
        self._path, self._job, self._trials, self._parallel = path, job, trials, parallel
        self._ended = {trial.number: trial for trial in ([] if path is None else load_trials(path, job))}

    @property
    def ended(self) -> list[TuningTrial]:
        """Finished trials, by number."""
        return [self._ended[number] for number in sorted(self._ended)]

    def ask(self, propose: Propose) -> list[Proposal]:
        """Return the trials of the next batch that have not ended."""
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
        """Store a trial, on disk if a path is given."""
        self._ended[trial.number] = trial
        if self._path is not None:
            save_trials(self._path, self._job, self.ended)
