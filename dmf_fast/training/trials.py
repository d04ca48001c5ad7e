"""Trials, the runs of `fit_many`, and their results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256

import numpy as np
import pyarrow as pa
from torch import Tensor

from dmf_fast.files.identity import sha256_of
from dmf_fast.html import html_table
from dmf_fast.observations import Observations
from dmf_fast.optim.spec import OptimizerLike, OptimizerSpec
from dmf_fast.training.arguments import bound_or_spec, model_of
from dmf_fast.training.fit import FitResult
from dmf_fast.training.identity import identity_of_run
from dmf_fast.training.measures import Measures
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording

Label = int | float | str

_ENDING = ("stopped_because", "best_step")


@dataclass(frozen=True, eq=False)
class Trial:
    """One run of `fit_many`: the arguments of `fit`, and labels that distinguish it from others.

    Attributes:
        labels: such as ``{"depth": 3, "init_scale": 1e-3, "seed": 0}``; they become columns of the tables.
            NumPy numbers are converted to plain ones.
        factors: initial factors ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``; not modified.
        train, options, recording, validation, test, truth: as for `fit`, but ``options.progress`` is ignored.
        optimizer: makes an optimizer of the factors, such as ``partial(torch.optim.Adam, lr=1e-3)``.

    Raises:
        TypeError: the name of a label is not a string, a label is neither a number nor a string, or
            ``optimizer`` is bound to parameters.
        ValueError: a label is an integer of more than 64 bits.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> train = Observations([0], [0], [1.0])
        >>> Trial({"seed": np.int64(0)}, [torch.eye(1)], train, partial(torch.optim.SGD, lr=0.1)).labels
        {'seed': 0}

    """

    labels: Mapping[str, Label]
    factors: Sequence[Tensor] = field(repr=False)
    train: Observations
    optimizer: OptimizerLike
    options: FitOptions = FitOptions()  # noqa: RUF009 (frozen)
    recording: Recording = Recording()  # noqa: RUF009 (frozen)
    validation: Observations | None = None
    test: Observations | None = None
    truth: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "labels", {name: _plain_label(name, value) for name, value in self.labels.items()}
        )
        spec = bound_or_spec(self.optimizer)
        if not isinstance(spec, OptimizerSpec):
            raise TypeError(
                "`optimizer` must be a callable that makes an optimizer of the factors, such as "
                f"functools.partial({type(spec).__name__}, lr=...), got one that is bound to parameters"
            )
        object.__setattr__(self, "optimizer", spec)

    @property
    def spec(self) -> OptimizerSpec:
        """The optimizer before it is bound to parameters."""
        assert isinstance(self.optimizer, OptimizerSpec)
        return self.optimizer

    def measures(self) -> Measures:
        """Return what the rows of the trial measure."""
        return Measures(self.validation, self.test, self.truth, self.recording)

    def columns(self) -> set[str]:
        """Return the names of all columns of the tables for this trial, except its labels."""
        history = ("step", "seconds", "train_loss", *self.measures().names(self.train.shape))
        return {*self.spec.describe(), *_ENDING, *history}

    def key(self) -> str:
        """Return a name that identifies the trial by its arguments, data and initial factors."""
        data = {"train": self.train, "validation": self.validation, "test": self.test}
        identity = identity_of_run(
            model_of(self.factors), self.spec, self.options, self.measures(), data, self.options.engine
        )
        options = {name: value for name, value in asdict(self.options).items() if name != "progress"}
        identity |= {"labels": dict(self.labels), "options": options, "start": sha256_of(*self.factors)}
        return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Attributes:
        trial: the trial.
        factors: ``[W_1, …, W_N]`` in the state with the best validation RMSE; without validation, the last.
        result: as from `fit`; ``stopped_because`` tells whether the trial diverged.

    """

    trial: Trial
    factors: list[Tensor] = field(repr=False)
    result: FitResult


@dataclass(frozen=True, repr=False)
class Trials:
    """The results of `fit_many` for all trials that have ended, in the order of the trials."""

    results: list[TrialResult]

    def __repr__(self) -> str:
        ends = Counter(one.result.stopped_because for one in self.results)
        return f"Trials({', '.join(f'{count:,} stopped by {why}' for why, count in ends.items())})"

    def _repr_html_(self) -> str:
        return html_table(self.summary(), "Trials")

    def history(self) -> pa.Table:
        """Return the rows of all histories as one table, preceded by the labels of their trials."""
        tables = [_labelled(one.trial, one.result.history.table) for one in self.results]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})

    def summary(self) -> pa.Table:
        """Return one row per trial: labels, optimizer, how it ended, and the last row of its history."""
        rows = [
            {**one.trial.labels, **one.trial.spec.describe()}
            | dict(zip(_ENDING, (one.result.stopped_because, one.result.best_step), strict=True))
            | {name: values[-1] for name, values in one.result.history.table[-1:].to_pydict().items()}
            for one in self.results
        ]
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: [row.get(name) for row in rows] for name in names})


class TrialError(RuntimeError):
    """Raised if a trial fails; the message names it, and ``__cause__`` is its error.

    Attributes:
        ended: the results of the trials that had ended by then.

    """

    def __init__(self, message: str, ended: Trials) -> None:
        super().__init__(message)
        self.ended = ended


def _plain_label(name: str, value: object) -> Label:
    if not isinstance(name, str):
        raise TypeError(f"the names of `labels` must be strings, got {name!r}")
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (int, float, str)):
        raise TypeError(f"the label `{name}` must be a number or a string, got {value!r}")
    if isinstance(plain, int) and not -(2**63) <= plain < 2**63:
        raise ValueError(f"the label `{name}` must fit into 64 bits, got {value}; use a string")
    return plain


def _labelled(trial: Trial, history: pa.Table) -> pa.Table:
    labels = {name: [value] * len(history) for name, value in trial.labels.items()}
    return pa.table({**labels, **{name: history[name] for name in history.column_names}})
