"""The search: runs trials with options that Optuna proposes, and stops them on validation entries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from dmf_fast.completion import CompletedMatrix, CompletionOptions, complete_matrix, validation_folds
from dmf_fast.extras import require
from dmf_fast.observations import Observations
from dmf_fast.threads import threads_shared
from dmf_fast.training import Progress
from dmf_fast.training.interrupt import DeferredInterrupt
from dmf_fast.tuning.kept_trials import KeptTrials, SearchTrials
from dmf_fast.tuning.options import TuningOptions
from dmf_fast.tuning.proposal import Proposal, propose
from dmf_fast.tuning.search_space import SearchSpace
from dmf_fast.tuning.shared_trials import shared_trials
from dmf_fast.tuning.trial import TuningTrial, TuningTrialState

# Evaluations before a trial can be pruned, since a run with small initial factors rests for some time.
_WARM_UP = 25
# Options that may differ when a search resumes, since they do not change the trials.
_OF_NO_EFFECT = ("checkpoint_every", "singular_values", "refit")
_SECONDS_TO_LOOK = 0.5  # between checks for the trials of other processes


@dataclass(frozen=True)
class TuningResult:
    """The result of a search.

    Attributes:
        options: the given options, updated with those of the best trial.
        best: the trial with the lowest validation RMSE.
        trials: all finished trials.
        interrupted: whether Ctrl-C ended the search early.

    """

    options: CompletionOptions
    best: TuningTrial
    trials: tuple[TuningTrial, ...]
    interrupted: bool = False

    @property
    def table(self) -> pa.Table:
        """One row per trial: its number, state, measures and options."""
        names = ("number", "state", "validation_rmse", "best_step", "steps", "seconds")
        rows = [{name: getattr(one, name) for name in names} | one.values for one in self.trials]
        return pa.Table.from_pylist(rows)


def tune(
    observed: Observations,
    options: CompletionOptions = CompletionOptions(),  # noqa: B008 (frozen)
    space: SearchSpace = SearchSpace(),  # noqa: B008 (frozen)
    tuning: TuningOptions = TuningOptions(),  # noqa: B008 (frozen)
    *,
    validation: Observations | None = None,
    kept_in: Path | None = None,
    after_trial: Callable[[TuningTrial], None] | None = None,
) -> TuningResult:
    """Search for the options with the lowest validation RMSE; all trials share the validation entries.

    Proposals come from the tree-structured Parzen estimator of Optuna: Bergstra, Bardenet, Bengio & Kégl,
    "Algorithms for Hyper-Parameter Optimization" (NeurIPS 2011). They depend only on the earlier trials, the
    seed and the number of concurrent trials, so that an interrupted search resumes to the same result. The
    first trial uses ``options``, so the result is never worse than these on the validation entries.

    Concurrent trials form a batch: the next batch starts when all of them have ended, and they are not pruned
    by comparison with each other. Machines that share a journal wait for each other only once no trial is
    left to start, and all return the same trials. ``docs/grids.md`` has recipes.

    Args:
        observed: entries to train on; without ``validation``, ``options`` determine a part that validates.
        options: initial values of the searched options, and values of all others.
        space: the search space.
        tuning: how long to search, and how many trials run at once.
        validation: validation entries, instead of a part of ``observed``.
        kept_in: file for the trials; if it holds trials of the same search, the search resumes. Unfinished
            trials are repeated. Not used with ``tuning.journal``.
        after_trial: called with each trial that ends in this call.

    Raises:
        ValueError: there are no validation entries, the search space is empty, ``options.hidden`` is
            ``"auto"``, all trials diverged, or ``kept_in`` or the journal is damaged or of another search.
        KeyboardInterrupt: Ctrl-C before any trial was complete.
        OSError: ``kept_in`` or the journal cannot be written.
        MissingExtraError: Optuna is not installed.

    Example:
        >>> from dmf_fast.experiments import low_rank_problem
        >>> observed = low_rank_problem(9, 8, 1, 40, seed=0).train
        >>> options = CompletionOptions.of({"steps": 4, "evaluate_every": 2, "validation_fraction": 0.2})
        >>> len(tune(observed, options, tuning=TuningOptions(trials=2)).trials)
        2

    """
    require("`tune`", "optuna")
    if "depth" in space.ranges and options.depth == "auto":
        options = replace(options, depth=space.ranges["depth"][0])
    if options.hidden == "auto":
        raise ValueError(
            "`hidden` in `options` must be a number, got 'auto', with which trials cannot be compared before "
            "their end; search for it, or give a width such as 64"
        )
    if not space.ranges:
        raise ValueError("`space` must have at least one option, got none")
    train = observed
    if validation is None:
        train, validation = validation_folds(observed, options)[0]
    if validation is None:
        raise ValueError(
            "`validation` must hold entries, got none; pass some, or set a larger validation_fraction"
        )
    with _trials(train, validation, options, space, tuning, kept_in) as trials:
        search = _Search(train, validation, options, space, tuning, trials)
        interrupted = search.run(after_trial)
        return search.result(interrupted)


@contextmanager
def _trials(
    train: Observations,
    validation: Observations,
    options: CompletionOptions,
    space: SearchSpace,
    tuning: TuningOptions,
    kept_in: Path | None,
) -> Iterator[SearchTrials]:
    job = _identity(train, validation, options, space, tuning)
    counts = {"trials": tuning.trials, "parallel": tuning.parallel}
    if tuning.journal is None:
        yield KeptTrials(kept_in, job, **counts)
    else:
        with shared_trials(tuning.journal, job, options, space, **counts) as trials:
            yield trials


class _Search:
    """A search in progress."""

    def __init__(
        self,
        train: Observations,
        validation: Observations,
        options: CompletionOptions,
        space: SearchSpace,
        tuning: TuningOptions,
        trials: SearchTrials,
    ) -> None:
        self._train, self._validation, self._space = train, validation, space
        self._options, self._tuning, self._trials = options, tuning, trials

    def run(self, after_trial: Callable[[TuningTrial], None] | None) -> bool:
        """Run trials until there are enough; return whether Ctrl-C interrupted it."""
        started = time.monotonic()
        limit = self._tuning.max_seconds
        while len(ended := self._trials.ended) < self._tuning.trials:
            if ended and limit is not None and time.monotonic() - started >= limit:
                return False
            try:
                proposals = self._trials.ask(self._propose)
                if not proposals:
                    time.sleep(_SECONDS_TO_LOOK)
            except KeyboardInterrupt:
                return True
            if self._run(proposals, after_trial):
                return True
        return False

    def result(self, interrupted: bool) -> TuningResult:
        trials = tuple(self._trials.ended)
        complete = [trial for trial in trials if trial.state == "complete"]
        if not complete and interrupted:
            raise KeyboardInterrupt
        if not complete:
            raise ValueError(
                f"none of the {len(trials)} trials completed: all diverged or were pruned; lower `lr`"
            )
        best = min(complete, key=lambda trial: (trial.validation_rmse, trial.number))
        return TuningResult(self._with(best), best, trials, interrupted)

    def _with(self, tried: Proposal | TuningTrial) -> CompletionOptions:
        # The first trial uses the given options, which may lie outside the space.
        return self._options.changed(tried.values) if tried.number else self._options

    def _propose(
        self, number: int, ended: Sequence[TuningTrial], running: Sequence[Mapping[str, Any]]
    ) -> Proposal:
        warm_up = _WARM_UP * (self._options.recording.every or 1) if self._tuning.prune else None
        return propose(
            self._options, self._space, self._tuning.seed, ended, warm_up, number=number, running=running
        )

    def _run(self, proposals: Sequence[Proposal], after_trial: Callable[[TuningTrial], None] | None) -> bool:
        """Run trials in parallel and report them in order; return whether Ctrl-C interrupted them."""
        if len(proposals) < 2:
            return not all(self._tell(self._make(proposal), after_trial) for proposal in proposals)
        stop = threading.Event()
        # Each run seeds torch's generator, which is shared, and would restore the state of another run.
        with (
            torch.random.fork_rng([]),
            DeferredInterrupt() as interrupt,
            threads_shared(len(proposals)) as pool,
        ):
            runs = [
                pool.submit(self._make, proposal, lambda: interrupt.requested or stop.is_set())
                for proposal in proposals
            ]
            try:
                ended = [self._tell(run.result(), after_trial) for run in runs]
            except BaseException:
                stop.set()
                raise
        return not all(ended)

    def _tell(self, trial: TuningTrial | None, after_trial: Callable[[TuningTrial], None] | None) -> bool:
        if trial is not None:
            self._trials.tell(trial)
            if after_trial is not None:
                after_trial(trial)
        return trial is not None

    def _make(
        self, proposal: Proposal, asked_to_stop: Callable[[], bool] = lambda: False
    ) -> TuningTrial | None:
        """Run a trial; return None if Ctrl-C interrupted it."""
        reports: dict[int, float] = {}

        def report(progress: Progress) -> bool:
            if asked_to_stop():
                raise KeyboardInterrupt  # like Ctrl-C in a callback, which ends the run as interrupted
            rmse = progress.row["validation_rmse"]
            if rmse is None or progress.step in reports:  # at the boundary of two phases
                return False
            reports[progress.step] = float(rmse)
            return proposal.is_hopeless(progress.step, float(rmse))

        options = self._with(proposal).changed(
            {"refit": False, "checkpoint_every": None, "singular_values": 0}
        )
        options = replace(options, fit=replace(options.fit, progress=False))
        completed = complete_matrix(self._train, options, validation=self._validation, callbacks=[report])
        return None if completed.interrupted else _trial(proposal, completed, reports)


def _trial(proposal: Proposal, completed: CompletedMatrix, reports: dict[int, float]) -> TuningTrial:
    pruned = any(run.result.stopped_because == "callback" for run in completed.search)
    state: TuningTrialState = "diverged" if completed.diverged else "pruned" if pruned else "complete"
    return TuningTrial(
        proposal.number,
        state,
        proposal.values,
        None if state == "diverged" else completed.validation_rmse,
        completed.best_step,
        completed.steps,
        completed.seconds,
        reports,
    )


def _identity(
    train: Observations,
    validation: Observations,
    options: CompletionOptions,
    space: SearchSpace,
    tuning: TuningOptions,
) -> dict[str, Any]:
    """Return what must agree between a search and the search that resumes it."""
    decisive = {name: value for name, value in options.values().items() if name not in _OF_NO_EFFECT}
    data = {name: part.digest() for name, part in (("train", train), ("validation", validation))}
    search = {"ranges": space.ranges, "seed of the search": tuning.seed, "prune": tuning.prune}
    if tuning.journal is None:  # with a journal, each machine may have its own number
        search["parallel"] = tuning.parallel
    return {**decisive, **search, **data}
