"""Checks of the arguments of `fit_many`, before any trial begins."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from dmf_fast.training.arguments import check_fit, model_of
from dmf_fast.training.trials import Label, Trial


def check_trials(trials: Sequence[Trial]) -> None:
    """Raise what `fit_many` raises for its trials.

    >>> check_trials([])
    """
    for place, trial in enumerate(trials):
        if not isinstance(trial, Trial):
            raise TypeError(f"`trials[{place}]` must be a Trial, got {type(trial).__name__}")
        try:
            model = model_of(trial.factors)
            check_fit(model, trial.train, trial.spec, trial.measures(), trial.options, trial.factors)
        except (TypeError, ValueError) as error:
            raise type(error)(f"`trials[{place}]`: {error}") from error
    _check_distinct(trials)
    _check_names(trials)
    _check_kinds(trials)


def _check_distinct(trials: Sequence[Trial]) -> None:
    seen: dict[frozenset[tuple[str, Label]], int] = {}
    for place, trial in enumerate(trials):
        first = seen.setdefault(frozenset(trial.labels.items()), place)
        if first != place:
            raise ValueError(
                f"`trials` must have distinct labels, got {dict(trial.labels)} in both trials[{first}] "
                f"and trials[{place}]"
            )


def _check_names(trials: Sequence[Trial]) -> None:
    """Reject labels with the name of a column, except for options of the optimizer with the same value."""
    columns = set().union(*(trial.columns() for trial in trials))
    for place, trial in enumerate(trials):
        optimizer = trial.spec.describe()
        for name, value in trial.labels.items():
            if name in columns and not (name in optimizer and optimizer[name] == value):
                raise ValueError(
                    f"`trials[{place}]` must not have a label with the name of a column of the tables, got "
                    f"{name!r} = {value!r}; choose another name"
                )


def _check_kinds(trials: Sequence[Trial]) -> None:
    """Reject labels whose values cannot be stored in one column."""
    for name in dict.fromkeys(name for trial in trials for name in trial.labels):
        values = [trial.labels[name] for trial in trials if name in trial.labels]
        try:
            pa.concat_tables([pa.table({name: [value]}) for value in values], promote_options="permissive")
        except pa.ArrowException as error:
            kinds = " and ".join(repr(value) for value in {type(value): value for value in values}.values())
            raise ValueError(
                f"the label `{name}` must have one type in all trials, as a column of the tables, got "
                f"{kinds} ({error}); convert them"
            ) from error
