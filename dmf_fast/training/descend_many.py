"""Many independent runs of `descend`, a core each."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from dmf_fast.observations import Observations
from dmf_fast.training.descend import DescentResult, check_descent, finish_run, start_run
from dmf_fast.training.descent_options import DescentOptions
from dmf_fast.training.factor_measures import FactorMeasures
from dmf_fast.training.identity import identity_of_descent, sha256_of
from dmf_fast.training.interrupt import DeferredInterrupt
from dmf_fast.training.recording import Recording
from dmf_fast.training.rules import Rule, describe_rule

Label = int | float | str

_HISTORY, _FACTORS, _SUMMARY = "history.parquet", "factors.safetensors", "summary.json"


@dataclass(frozen=True, eq=False)
class Trial:
    """One run of `descend_many`: the arguments of `descend`, and labels that tell it from the others.

    Attributes:
        labels: such as ``{"depth": 3, "init_scale": 1e-3, "seed": 0}``: columns of the tables.
        factors: the start, left as it is.
        train, rule, options, recording, validation, test, truth: as for `descend`; of the options,
            ``progress`` is that of `descend_many`.

    """

    labels: Mapping[str, Label]
    factors: Sequence[Tensor]
    train: Observations
    rule: Rule
    options: DescentOptions = DescentOptions()  # noqa: RUF009 (frozen)
    recording: Recording = Recording()  # noqa: RUF009 (frozen)
    validation: Observations | None = None
    test: Observations | None = None
    truth: Tensor | None = None

    def measures(self) -> FactorMeasures:
        """Return what its rows measure."""
        return FactorMeasures(self.validation, self.test, self.truth, self.recording)

    def key(self) -> str:
        """Return a name that only the same trial has: its arguments, data and start decide."""
        data = {"train": self.train, "validation": self.validation, "test": self.test}
        identity = identity_of_descent(
            self.factors, self.rule, self.options, self.recording, data, self.truth
        )
        options = {name: value for name, value in asdict(self.options).items() if name != "progress"}
        identity |= {"labels": dict(self.labels), "options": options, "start": sha256_of(*self.factors)}
        return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TrialResult:
    """What a trial ended with.

    Attributes:
        trial: the trial.
        factors: ``[W_1, …, W_N]``: the state of the best validation RMSE, else the last.
        result: as of `descend`; its ``stopped_because`` says whether it has diverged.

    """

    trial: Trial
    factors: list[Tensor]
    result: DescentResult


@dataclass(frozen=True)
class Trials:
    """What `descend_many` returns: a result for every trial that has ended, in the order of the trials."""

    results: list[TrialResult]

    def history(self) -> pa.Table:
        """Return the rows of all histories as one table, led by the labels of their trials."""
        tables = [_labelled(one.trial, one.result.history) for one in self.results]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})

    def summary(self) -> pa.Table:
        """Return one row a trial: labels, rule, how it ended, and the last row of its history."""
        rows = [
            {**one.trial.labels, **describe_rule(one.trial.rule)}
            | {"stopped_because": one.result.stopped_because, "best_step": one.result.best_step}
            | {name: values[-1] for name, values in one.result.history.to_pydict().items()}
            for one in self.results
        ]
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: [row.get(name) for row in rows] for name in names})


def descend_many(
    trials: Sequence[Trial],
    *,
    folder: Path | str | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Trials:
    """Run all trials, ``workers`` of them at once, each in one thread.

    Every trial is bitwise the same as `descend` with the same arguments under ``torch.set_num_threads(1)``,
    whatever runs beside it. A trial that diverges is recorded as such, and the others go on. Ctrl-C ends all
    within about a tenth of a second or a step; the trials that have ended by then are returned.

    Args:
        trials: with distinct labels.
        folder: keeps every trial that has ended, and the state of those under way. The same call again
            repeats no trial that has ended and goes on with the others, bitwise as if nothing had happened.
        workers: how many trials run at once; when None the number of torch's threads, and on a GPU that of
            its multiprocessors.
        progress: a bar over the steps of all trials on standard error: True, False, or None for only where
            that is a terminal.

    Raises:
        TypeError, ValueError: as `descend`; the message names the trial. Or two trials have the same labels.

    Example:
        >>> from dmf_fast.training import GradientDescent
        >>> train = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
        >>> trials = [
        ...     Trial({"lr": lr}, [torch.eye(2), torch.eye(2)], train, GradientDescent(lr))
        ...     for lr in (0.1, 1e9)
        ... ]
        >>> [one.result.stopped_because for one in descend_many(trials).results]
        ['steps', 'diverged']

    """
    _check(trials)
    kept = None if folder is None else Path(folder)
    workers = _workers_for(trials) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be at least 1, but {workers} came.")
    total = sum(trial.options.steps for trial in trials)
    bar = tqdm(total=total, unit="step", unit_scale=True, disable=None if progress is None else not progress)
    with DeferredInterrupt() as interrupt, bar, _one_thread(), ThreadPoolExecutor(workers) as pool:
        team = _Team(kept, interrupt, bar)
        ended = list(pool.map(team.run, trials))
    return Trials([one for one in ended if one is not None])


class _Team:
    """What the threads share."""

    def __init__(self, folder: Path | None, interrupt: DeferredInterrupt, bar: tqdm) -> None:
        self._folder, self._interrupt, self._bar = folder, interrupt, bar
        self._lock = threading.Lock()
        self._failed = False

    def run(self, trial: Trial) -> TrialResult | None:
        """Run a trial to its end; None where it was interrupted before."""
        folder = None if self._folder is None else self._folder / f"trial-{trial.key()}"
        if folder is not None and folder.exists():
            self._advance(trial.options.steps)
            return _load(trial, folder)
        if self._asked_to_stop():
            return None
        try:
            ended = self._descend(trial, folder)
        except BaseException:
            self._failed = True  # the error is raised when all have stopped
            raise
        self._advance(trial.options.steps - ended.result.steps)
        if ended.result.stopped_because == "interrupted":
            return None
        if folder is not None:
            _keep(ended, folder)
            shutil.rmtree(_checkpoint_of(folder), ignore_errors=True)
        return ended

    def _descend(self, trial: Trial, folder: Path | None) -> TrialResult:
        factors = [factor.detach().clone() for factor in trial.factors]
        run = start_run(
            factors,
            trial.train,
            trial.rule,
            trial.options,
            trial.measures(),
            (),
            None if folder is None else _checkpoint_of(folder),
            interrupted=self._asked_to_stop,
            advanced=self._advance,
        )
        return TrialResult(trial, factors, finish_run(run, factors))

    def _asked_to_stop(self) -> bool:
        return self._failed or self._interrupt.requested

    def _advance(self, steps: int) -> None:
        with self._lock:
            self._bar.update(steps)


def _check(trials: Sequence[Trial]) -> None:
    seen: dict[tuple[tuple[str, Label], ...], int] = {}
    for place, trial in enumerate(trials):
        labels = tuple(sorted(trial.labels.items()))
        if labels in seen:
            raise ValueError(
                f"trials must have distinct labels, but trials[{seen[labels]}] and trials[{place}] both have "
                f"{dict(trial.labels)}."
            )
        seen[labels] = place
        try:
            check_descent(trial.factors, trial.train, trial.measures())
        except (TypeError, ValueError) as error:
            raise type(error)(f"trials[{place}]: {error}") from error


def _workers_for(trials: Sequence[Trial]) -> int:
    devices = {trial.train.device for trial in trials if trial.train.device.type == "cuda"}
    multiprocessors = (torch.cuda.get_device_properties(device).multi_processor_count for device in devices)
    return max(torch.get_num_threads(), *multiprocessors, 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch use one thread, here and in threads that begin meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _labelled(trial: Trial, history: pa.Table) -> pa.Table:
    labels = {name: [value] * len(history) for name, value in trial.labels.items()}
    return pa.table({**labels, **{name: history[name] for name in history.column_names}})


def _checkpoint_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".checkpoint")


def _keep(ended: TrialResult, folder: Path) -> None:
    """Write a result; the folder appears when it is whole."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    result = ended.result
    pq.write_table(result.history, unfinished / _HISTORY)
    save_file({f"factors.{j}": factor for j, factor in enumerate(ended.factors)}, unfinished / _FACTORS)
    kept = {field: getattr(result, field) for field in ("best_step", "stopped_because", "steps", "seconds")}
    labels = {"labels": dict(ended.trial.labels), "rule": describe_rule(ended.trial.rule)}
    (unfinished / _SUMMARY).write_text(json.dumps(kept | labels, indent=1) + "\n")
    os.replace(unfinished, folder)


def _load(trial: Trial, folder: Path) -> TrialResult:
    kept = json.loads((folder / _SUMMARY).read_text())
    factors = load_file(folder / _FACTORS, device=str(trial.train.device))
    result = DescentResult(
        pq.read_table(folder / _HISTORY),
        kept["best_step"],
        kept["stopped_because"],
        kept["steps"],
        kept["seconds"],
    )
    return TrialResult(trial, [factors[f"factors.{j}"] for j in range(len(factors))], result)
