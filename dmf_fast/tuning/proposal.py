"""What Optuna proposes to try next, given the trials so far."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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
        number: of the trial.
        values: of the options that are searched for, by name.
        trial: Optuna's, which knows the trials before.

    """

    number: int
    values: dict[str, Any]
    trial: Any

    def is_hopeless(self, step: int, rmse: float) -> bool:
        """Take note of a validation RMSE, and say whether the trial should end."""
        self.trial.report(rmse, step)
        return bool(self.trial.should_prune())


def propose(
    start: CompletionOptions,
    space: SearchSpace,
    seed: int,
    trials: Sequence[TuningTrial],
    warm_up: int | None,
) -> Proposal:
    """Return what to try after ``trials``: it depends on these and on the seed alone.

    Every proposal has a study and a sampler of its own, for a search that is resumed in another process.

    Args:
        start: the options of the first trial.
        space: what is searched for.
        seed: of the search.
        trials: all that have ended.
        warm_up: step before which no trial is pruned; None prunes none.

    """
    import optuna

    number, distributions = len(trials), space.distributions(start)
    drawn_from = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    sampler = _sampler(drawn_from)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if warm_up is not None:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warm_up, n_min_trials=3)
    study = _silent_study(sampler, pruner)
    study.add_trials([_told(trial, distributions) for trial in trials])
    if number == 0:
        study.enqueue_trial(space.place_of(start))
    trial = study.ask(distributions)
    return Proposal(number, dict(trial.params), trial)


def _sampler(seed: int) -> Any:
    import optuna

    with warnings.catch_warnings():
        # Options depend on one another: weight decay on width, say. Some versions call that experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def _silent_study(sampler: Any, pruner: Any) -> Any:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce every study
    try:
        return optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _told(trial: TuningTrial, distributions: dict[str, Any]) -> Any:
    import optuna

    states = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.PRUNED,
        "diverged": optuna.trial.TrialState.FAIL,
    }
    return optuna.trial.create_trial(
        state=states[trial.state],
        value=trial.validation_rmse,
        params=trial.values,
        distributions=distributions,
        intermediate_values=trial.reports,
    )
