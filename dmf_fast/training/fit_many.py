"""Many independent runs of `fit`, a core each."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from tqdm import tqdm

from dmf_fast.checks import whole_number
from dmf_fast.files.atomic import remove_strays
from dmf_fast.files.lock import locked
from dmf_fast.threads import one_thread_each
from dmf_fast.training.arguments import model_of
from dmf_fast.training.fit import train_until_done
from dmf_fast.training.interrupt import DeferredInterrupt
from dmf_fast.training.trial_checks import check_trials
from dmf_fast.training.trial_files import checkpoint_of, keep_result, load_result
from dmf_fast.training.trials import Trial, TrialError, TrialResult, Trials

# torch has so many streams a GPU and gives them out in turn; runs that share one would wait for each other.
_MOST_STREAMS = 32


def fit_many(
    trials: Iterable[Trial],
    *,
    folder: Path | str | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Trials:
    """Run all trials, ``workers`` of them at once, each in one thread.

    Every trial is bitwise the same as `fit` with the same arguments under ``torch.set_num_threads(1)``,
    whatever else runs. A trial that diverges is recorded as such, and the others continue. Ctrl-C ends all
    within about a tenth of a second or a step; the trials that have ended by then are returned.

    Args:
        trials: with distinct labels, each of one kind in all trials. A label may have the name of an option
            of the optimizer where it says the same, and of no other column of the tables.
        folder: keeps every trial that has ended, and the state of those under way. The same call again
            repeats no trial that has ended and resumes the others bit for bit.
            One call at a time uses it.
        workers: how many trials run at once; when None the number of torch's threads, and on a GPU that of
            its multiprocessors, but at most 32, as torch has no more streams.
        progress: a bar over the steps of all trials on standard error: True, False, or None for only where
            that is a terminal.

    Raises:
        TypeError, ValueError: as `fit`; the message names the trial. Or labels are not as said above, or
            another call uses the folder.
        TrialError: a trial failed later on, for want of memory for example. The others have been stopped;
            ``error.ended`` has the results of those that had ended.

    Example:
        >>> from dmf_fast import Observations
        >>> from functools import partial
        >>> train = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
        >>> trials = [
        ...     Trial({"lr": lr}, [torch.eye(2), torch.eye(2)], train, partial(torch.optim.SGD, lr=lr))
        ...     for lr in (0.1, 1e9)
        ... ]
        >>> [one.result.stopped_because for one in fit_many(trials).results]
        ['steps', 'diverged']

    """
    trials = list(trials)
    check_trials(trials)
    workers = default_workers(trials) if workers is None else whole_number("workers", workers, least=1)
    kept = None if folder is None else Path(folder)
    with (
        nullcontext() if kept is None else locked(kept),
        DeferredInterrupt() as interrupt,
        _bar(trials, progress) as bar,
        one_thread_each(workers) as pool,
    ):
        team = _Team(kept, interrupt, bar)
        ended = list(pool.map(team.run, trials))
    results = Trials([one for one in ended if one is not None])
    if team.failed is None:
        return results
    trial, error = team.failed
    name = f"trials[{trials.index(trial)}] with the labels {dict(trial.labels)}"
    raise TrialError(f"{name} failed: {type(error).__name__}: {error}", results) from error


class _Team:
    """What the threads share."""

    def __init__(self, folder: Path | None, interrupt: DeferredInterrupt, bar: tqdm) -> None:
        self._folder, self._interrupt, self._bar = folder, interrupt, bar
        self._lock = threading.Lock()
        self.failed: tuple[Trial, BaseException] | None = None

    def run(self, trial: Trial) -> TrialResult | None:
        """Run a trial to its end; None where it did not come to one."""
        try:
            return self._ended(trial)
        except BaseException as error:  # raised when all others have stopped, which this tells them to
            with self._lock:
                self.failed = self.failed or (trial, error)
            return None

    def _ended(self, trial: Trial) -> TrialResult | None:
        folder = None if self._folder is None else self._folder / f"trial-{trial.key()}"
        if folder is not None and folder.exists():
            self._advance(trial.options.steps)
            remove_strays(folder)
            shutil.rmtree(checkpoint_of(folder), ignore_errors=True)
            return load_result(trial, folder)
        if self._asked_to_stop():
            return None
        ended = self._fit(trial, folder)
        self._advance(trial.options.steps - ended.result.steps)
        if ended.result.stopped_because == "interrupted":
            return None
        if folder is not None:
            keep_result(ended, folder)
            shutil.rmtree(checkpoint_of(folder), ignore_errors=True)
        return ended

    def _fit(self, trial: Trial, folder: Path | None) -> TrialResult:
        factors = [factor.detach().clone(memory_format=torch.contiguous_format) for factor in trial.factors]
        result = train_until_done(
            model_of(factors),
            trial.train,
            trial.spec,
            trial.options,
            trial.measures(),
            interrupted=self._asked_to_stop,
            advanced=self._advance,
            given=factors,
            checkpoint=None if folder is None else checkpoint_of(folder),
        )
        return TrialResult(trial, factors, result)

    def _asked_to_stop(self) -> bool:
        return self.failed is not None or self._interrupt.requested

    def _advance(self, steps: int) -> None:
        with self._lock:
            self._bar.update(steps)


def _bar(trials: Sequence[Trial], progress: bool | None) -> tqdm:
    total = sum(trial.options.steps for trial in trials)
    return tqdm(total=total, unit="step", unit_scale=True, disable=None if progress is None else not progress)


def default_workers(trials: Sequence[Trial]) -> int:
    """Return how many trials run at once where nobody says.

    >>> default_workers([]) == torch.get_num_threads()
    True
    """
    devices = {trial.train.device for trial in trials if trial.train.device.type == "cuda"}
    if not devices:
        return torch.get_num_threads()
    multiprocessors = (torch.cuda.get_device_properties(device).multi_processor_count for device in devices)
    return min(_MOST_STREAMS, max(multiprocessors))
