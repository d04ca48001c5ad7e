"""Trial after trial: settings that Optuna proposes, each a run that validation entries stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from dmf_fast.checks import settle_not_negative, settle_whole_number
from dmf_fast.completion import (
    CompletedMatrix,
    CompletionOptions,
    RunSettings,
    complete_matrix,
    split_validation,
)
from dmf_fast.observations import Observations
from dmf_fast.training import Progress
from dmf_fast.tuning.proposal import Proposal, propose
from dmf_fast.tuning.search_space import SearchSpace
from dmf_fast.tuning.trial import TrialState, TuningTrial, load_trials, save_trials

# Evaluations before a trial can be pruned: a small start rests near the biases for some time.
_WARM_UP = 25


@dataclass(frozen=True)
class TuningOptions:
    """How long is searched.

    Attributes:
        trials: how many there are, the first of which has the settings that the search begins with.
        max_seconds: after so many seconds of this call no other trial begins; None for no limit. With a limit
            the result depends on the speed of the machine.
        seed: of the proposals.
        prune: whether a trial ends where it is worse than the median of those before it at the same step.

    Raises:
        ValueError, TypeError: a number is out of range or none.

    Example:
        >>> TuningOptions(trials=10).seed
        0

    """

    trials: int = 40
    max_seconds: float | None = None
    seed: int = 0
    prune: bool = True

    def __post_init__(self) -> None:
        settle_whole_number(self, "trials", least=1)
        settle_whole_number(self, "seed", least=0)
        settle_not_negative(self, "max_seconds")


@dataclass(frozen=True)
class TuningResult:
    """What a search has found.

    Attributes:
        options: those of the best trial, with refit and everything else as it was given.
        best: the trial with the lowest validation RMSE.
        trials: all of them.
        interrupted: whether Ctrl-C has ended the search before its time.

    """

    options: CompletionOptions
    best: TuningTrial
    trials: tuple[TuningTrial, ...]
    interrupted: bool = False

    @property
    def table(self) -> pa.Table:
        """One row a trial: its number, state, measures and settings."""
        names = ("number", "state", "validation_rmse", "best_step", "steps", "seconds")
        rows = [{name: getattr(one, name) for name in names} | one.settings for one in self.trials]
        return pa.Table.from_pylist(rows)


def tune(
    observed: Observations,
    options: CompletionOptions = CompletionOptions(),  # noqa: B008 (frozen)
    space: SearchSpace = SearchSpace(),  # noqa: B008 (frozen)
    tuning: TuningOptions = TuningOptions(),
    *,
    validation: Observations | None = None,
    kept_in: Path | None = None,
    after_trial: Callable[[TuningTrial], None] | None = None,
) -> TuningResult:
    """Search for the settings with the lowest validation RMSE; all trials have the same validation entries.

    Proposals come from Optuna's tree-structured Parzen estimator: Bergstra, Bardenet, Bengio & Kégl,
    "Algorithms for Hyper-Parameter Optimization" (NeurIPS 2011). They depend on the trials before and on the
    seed alone, so that a search which was interrupted goes on to the same result. The first trial has the
    settings of ``options``: none that is worse is ever returned.

    Args:
        observed: entries to train on; without ``validation`` a part of them validates, as ``options`` say.
        options: what is not searched for, and where the search begins.
        space: what is searched for.
        tuning: how long.
        validation: entries that choose, instead of a part of ``observed``.
        kept_in: file that keeps the trials; where it holds some of the same search, that goes on. A trial
            that was not finished is made again.
        after_trial: called with every trial that has ended in this call.

    Raises:
        ValueError: there are no validation entries, nothing is searched for, every trial has diverged, or
            ``kept_in`` is of another search.
        KeyboardInterrupt: Ctrl-C came in the first trial.
        OSError: ``kept_in`` cannot be written.

    Example:
        >>> from dmf_fast.experiments import low_rank_problem
        >>> from dmf_fast.training import FitOptions
        >>> observed = low_rank_problem(9, 8, 1, 40, seed=0).train
        >>> options = CompletionOptions(fit=FitOptions(steps=4, evaluate_every=2), validation_fraction=0.2)
        >>> len(tune(observed, options, tuning=TuningOptions(trials=2)).trials)
        2

    """
    if not space.searched:
        raise ValueError("space must leave a setting to be searched for, but all of them are fixed.")
    train = observed
    if validation is None:
        train, validation = split_validation(observed, options)
    if validation is None:
        raise ValueError(
            "tune needs validation entries: pass some, or options with a validation_fraction that gives some."
        )
    search = _Search(train, validation, options, space, tuning, kept_in)
    interrupted = search.run(after_trial)
    return search.result(interrupted)


class _Search:
    """Trials so far, and the next one."""

    def __init__(
        self,
        train: Observations,
        validation: Observations,
        options: CompletionOptions,
        space: SearchSpace,
        tuning: TuningOptions,
        kept_in: Path | None,
    ) -> None:
        self._train, self._validation = train, validation
        self._options, self._tuning, self._kept_in = options, tuning, kept_in
        self._job = _identity(train, validation, options, space, tuning)
        self._trials = [] if kept_in is None else load_trials(kept_in, self._job)
        self._space = space

    def run(self, after_trial: Callable[[TuningTrial], None] | None) -> bool:
        """Make trials until there are enough; return whether Ctrl-C came."""
        started = time.monotonic()
        limit = self._tuning.max_seconds
        while len(self._trials) < self._tuning.trials:
            if self._trials and limit is not None and time.monotonic() - started >= limit:
                return False
            trial = self._next_trial()
            if trial is None:
                return True
            self._trials.append(trial)
            if self._kept_in is not None:
                save_trials(self._kept_in, self._job, self._trials)
            if after_trial is not None:
                after_trial(trial)
        return False

    def result(self, interrupted: bool) -> TuningResult:
        complete = [trial for trial in self._trials if trial.state == "complete"]
        if not complete and interrupted:
            raise KeyboardInterrupt
        if not complete:
            raise ValueError(f"All {len(self._trials)} trials have diverged; lower init_scale or lr.")
        best = min(complete, key=lambda trial: (trial.validation_rmse, trial.number))
        options = replace(self._options, run=self._run_settings(best.number, best.settings))
        return TuningResult(options, best, tuple(self._trials), interrupted)

    def _run_settings(self, number: int, settings: dict[str, Any]) -> RunSettings:
        # The first trial is the settings as they are, which may lie outside the space.
        return replace(self._options.run, **settings) if number else self._options.run

    def _next_trial(self) -> TuningTrial | None:
        """Make one run; None where Ctrl-C came."""
        warm_up = _WARM_UP * self._options.fit.evaluate_every if self._tuning.prune else None
        proposal = propose(self._options.run, self._space, self._tuning.seed, self._trials, warm_up)
        reports: dict[int, float] = {}

        def report(progress: Progress) -> bool:
            rmse = progress.row["validation_rmse"]
            if rmse is None:
                return False
            reports[progress.step] = float(rmse)
            return proposal.is_hopeless(progress.step, float(rmse))

        options = replace(
            self._options,
            run=self._run_settings(proposal.number, proposal.settings),
            fit=replace(self._options.fit, progress=False, checkpoint_every=None, record_singular_values=0),
            refit=False,
        )
        completed = complete_matrix(self._train, options, validation=self._validation, callbacks=[report])
        return None if completed.interrupted else _trial(proposal, completed, reports)


def _trial(proposal: Proposal, completed: CompletedMatrix, reports: dict[int, float]) -> TuningTrial:
    result = completed.run.result
    states: dict[str, TrialState] = {"diverged": "diverged", "callback": "pruned"}
    state = states.get(result.stopped_because, "complete")
    return TuningTrial(
        proposal.number,
        state,
        proposal.settings,
        None if state == "diverged" else completed.run.validation_rmse,
        result.best_step,
        result.steps,
        result.seconds,
        reports,
    )


def _identity(
    train: Observations,
    validation: Observations,
    options: CompletionOptions,
    space: SearchSpace,
    tuning: TuningOptions,
) -> dict[str, Any]:
    """Return what must agree between a search and the one that goes on with it."""
    fit = {k: v for k, v in asdict(options.fit).items() if k not in ("progress", "checkpoint_every")}
    data = {name: part.digest() for name, part in (("train", train), ("validation", validation))}
    searched = {"space": asdict(space), "seed": tuning.seed, "prune": tuning.prune}
    return {"run": asdict(options.run), "fit": fit, **searched, **data}
