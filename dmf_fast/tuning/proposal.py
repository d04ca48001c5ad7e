"""Proposals of Optuna, given the trials so far."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmf_fast.completion import CompletionOptions
from dmf_fast.tuning.search_space import SearchSpace
from dmf_fast.tuning.trial import TuningTrial


@dataclass(frozen=True)
class Proposal:
    """Options to try.

    Attributes:
        number: number of the trial.
        values: values of the searched options, by name.
        trial: the Optuna trial, which knows the earlier trials.

    """

    number: int
    values: dict[str, Any]
    trial: Any

    def is_hopeless(self, step: int, rmse: float) -> bool:
        """Report a validation RMSE, and return whether the trial should be pruned."""
        self.trial.report(rmse, step)
        return bool(self.trial.should_prune())


def propose(
    start: CompletionOptions,
    space: SearchSpace,
    seed: int,
    trials: Sequence[TuningTrial],
    warm_up: int | None,
    *,
    number: int | None = None,
    running: Sequence[Mapping[str, Any]] = (),
) -> Proposal:
    """Return the options to try after ``trials``; they depend only on the arguments.

    Each proposal has a study and a sampler of its own, so that a search can resume in another process.

    Args:
        start: the options of the first trial.
        space: the search space.
        seed: of the search.
        trials: all finished trials.
        warm_up: step before which no trial is pruned; None disables pruning.
        number: number of the trial; None for the one after ``trials``.
        running: values of running trials; the sampler assumes that they end badly and so explores elsewhere.

    """
    import optuna

    number = len(trials) if number is None else number
    distributions = space.distributions(start)
    drawn_from = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    sampler = _sampler(drawn_from)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if warm_up is not None:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warm_up, n_min_trials=3)
    with silent():
        study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
    study.add_trials([_told(trial, distributions) for trial in trials])
    study.add_trials([under_way(values, distributions) for values in running])
    if number == 0:
        study.enqueue_trial(space.place_of(start))
    trial = study.ask(distributions)
    return Proposal(number, dict(trial.params), trial)


def _sampler(seed: int) -> Any:
    import optuna

    with warnings.catch_warnings():
        # multivariate, since options interact, such as weight decay and width; experimental in some versions.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


@contextmanager
def silent() -> Iterator[None]:
    """Silence the messages of Optuna about studies.

    >>> with silent():
    ...     pass
    """
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def under_way(
    values: Mapping[str, Any], distributions: dict[str, Any], facts: dict[str, Any] | None = None
) -> Any:
    """Return a running Optuna trial, with ``facts`` as its attributes."""
    import optuna

    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=dict(values),
        distributions=distributions,
        user_attrs=facts,
    )


def state_of(trial: TuningTrial) -> Any:
    """Return the Optuna state of a finished trial."""
    import optuna

    states = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.PRUNED,
        "diverged": optuna.trial.TrialState.FAIL,
    }
    return states[trial.state]


def _told(trial: TuningTrial, distributions: dict[str, Any]) -> Any:
    import optuna

    return optuna.trial.create_trial(
        state=state_of(trial),
        value=trial.validation_rmse,
        params=trial.values,
        distributions=distributions,
        intermediate_values=trial.reports,
    )
