"""Many independent runs of `fit` at once, on the cores or GPUs of any number of machines."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import torch
from tqdm import tqdm

from dmf_fast.checks import whole_number
from dmf_fast.files.lock import InUseError, check_folder
from dmf_fast.threads import one_thread_each
from dmf_fast.training.arguments import model_of
from dmf_fast.training.course import Course, drive
from dmf_fast.training.fit import generators_kept, make_run, run_course
from dmf_fast.training.interrupt import DeferredInterrupt
from dmf_fast.training.together import HELPERS, GpuCourses
from dmf_fast.training.trial_checks import check_trials
from dmf_fast.training.trial_files import (
    checkpoint_of,
    folder_of,
    held_trial,
    keep_result,
    load_result,
    remove_leftovers,
)
from dmf_fast.training.trials import Trial, TrialError, TrialResult, Trials

# How long a worker sleeps if others run all trials that are left; it doubles each time.
_FIRST_PAUSE, _LONGEST_PAUSE, _SECONDS_TO_INTERRUPT = 0.02, 2.0, 0.1


def fit_many(
    trials: Iterable[Trial],
    *,
    folder: Path | str | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Trials:
    """Run all trials, ``workers`` at once: each in one thread of the CPU or in one thread block of a GPU.

    On a GPU, runs of the engine ``"cuda_block"`` are executed together, one launch at a time, along with at
    most one run of another engine.

    Each trial is bit-identical to `fit` with the same arguments under ``torch.set_num_threads(1)``, unless
    its optimizer draws from torch's generators, which concurrent trials share. A trial that diverges is
    recorded as such, and the others continue. Ctrl-C ends all runs within about 0.1 seconds or one step; the
    trials that have ended by then are returned.

    Args:
        trials: the trials, with distinct labels; a label has values of one type in all trials. A label may
            have the name of an optimizer option if it has the same value, but not that of another column of
            the tables.
        folder: folder for the results of trials and the state of running ones. Repeating the call skips
            trials that have ended and resumes the others bit-identically. Any number of processes and
            machines may make the same call at once: each runs trials that no other process holds, and all
            return all results. Trials of a killed process are taken over by another; see ``docs/grids.md``.
        workers: number of trials that run at once on the CPU and on each GPU; None for the number of torch's
            threads, and the number of multiprocessors of the GPU.
        progress: show a progress bar over all steps on standard error: True, False, or None to show it only
            on a terminal.

    Returns:
        The results, in the order of the trials.

    Raises:
        TypeError, ValueError: as for `fit`, and the message names the trial; or labels are not as stated
            above, or ``folder`` is a file.
        TrialError: a trial failed during its run, for example for lack of memory. The others were stopped;
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
    if workers is not None:
        workers = whole_number("workers", workers, least=1)
    kept = None if folder is None else Path(folder)
    if kept is not None:
        check_folder(kept)
    on_cpu, on_gpus = _by_device(trials)
    with (
        DeferredInterrupt() as interrupt,
        _bar(trials, progress) as bar,
        generators_kept([trial.options for trial in trials], [trial.train for trial in trials]),
        one_thread_each(workers or torch.get_num_threads()) as pool,
        one_thread_each(max(1, len(on_gpus))) as gpu_pool,
    ):
        team = _Team(trials, kept, interrupt, bar)
        together = [
            gpu_pool.submit(
                team.finish_together,
                places,
                workers or _multiprocessors(gpu),
                torch.cuda.current_stream(gpu),
            )
            for gpu, places in on_gpus.items()
        ]
        line = deque(on_cpu)
        list(pool.map(lambda _: team.finish_one(line), on_cpu))
        for one in together:
            one.result()
    results = Trials([team.ended[place] for place in sorted(team.ended)])
    if team.failed is None:
        return results
    place, error = team.failed
    name = f"trials[{place}] with the labels {dict(trials[place].labels)}"
    raise TrialError(f"{name} failed: {type(error).__name__}: {error}", results) from error


class _Team:
    """State shared by the worker threads."""

    def __init__(
        self, trials: Sequence[Trial], folder: Path | None, interrupt: DeferredInterrupt, bar: tqdm
    ) -> None:
        self._trials, self._folder, self._interrupt, self._bar = trials, folder, interrupt, bar
        self._lock = threading.Lock()
        self._folders: dict[int, Path] = {}
        self.ended: dict[int, TrialResult] = {}
        self.failed: tuple[int, BaseException] | None = None

    def finish_one(self, line: deque[int]) -> None:
        """Finish the next trial in the queue that no other process holds.

        It is called once per trial, and each call holds one trial, so the queue is never empty.
        """
        pause = _FIRST_PAUSE
        held: set[int] = set()
        while not self._run_alone(place := line.popleft()):
            line.append(place)
            if place in held:  # others hold all that is left
                self._wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                held.clear()
            held.add(place)

    def finish_together(self, places: Sequence[int], most: int, stream: torch.cuda.Stream | None) -> None:
        """Finish all trials of a GPU, at most ``most`` at once, on ``stream``."""
        line, pause, next_look = deque(places), _FIRST_PAUSE, 0.0
        try:
            with one_thread_each(HELPERS) as helpers, closing(GpuCourses(most, stream, helpers)) as courses:
                while line or courses:
                    if courses.have_room and (self._asked_to_stop() or time.monotonic() >= next_look):
                        found = self._begin_some(line, courses)
                        pause = _FIRST_PAUSE if found else min(2 * pause, _LONGEST_PAUSE)
                        next_look = 0.0 if found else time.monotonic() + pause
                    if courses:
                        courses.make_slice()
                    elif line:  # others hold all that is left
                        self._wait(pause)
        except BaseException as error:
            self._fail(places[0], error)  # which stops the others
            raise

    def _begin_some(self, line: deque[int], courses: GpuCourses) -> bool:
        """Begin free trials of the queue, as long as there is room; return whether there was one."""
        found = False
        for _ in range(len(line)):
            if not courses.have_room:
                break
            place = line.popleft()
            if courses.begin(self._course(place)):
                found = True
            else:
                line.append(place)
        return found

    def _run_alone(self, place: int) -> bool:
        """Drive the course of a trial, restoring torch's generators if it has a seed."""
        trial = self._trials[place]
        with generators_kept([trial.options], [trial.train]):
            return drive(self._course(place))

    def _course(self, place: int) -> Course[bool]:
        """Finish a trial; return False if another process holds it."""
        try:
            yield from self._finish(place)
        except InUseError:
            return False
        except GeneratorExit:
            raise
        except BaseException as error:  # reported when all others have stopped
            self._fail(place, error)
        return True

    def _fail(self, place: int, error: BaseException) -> None:
        """Record the first failure, which stops all other trials."""
        with self._lock:
            self.failed = self.failed or (place, error)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._asked_to_stop() and time.monotonic() < end:
            time.sleep(min(seconds, _SECONDS_TO_INTERRUPT))

    def _finish(self, place: int) -> Course[None]:
        """Load the result of a trial or run it; raise an `InUseError` if another process runs it."""
        trial = self._trials[place]
        folder = self._folder
        ended = yield from self._fit(trial, None) if folder is None else self._kept(place, trial, folder)
        if ended is not None:
            self.ended[place] = ended

    def _kept(self, place: int, trial: Trial, among: Path) -> Course[TrialResult | None]:
        if place not in self._folders:
            self._folders[place] = folder_of(trial, among)  # once: it takes a digest of all data
        folder = self._folders[place]
        if not folder.exists():
            if self._asked_to_stop():
                return None
            with held_trial(folder) as is_new:
                if is_new:
                    ended = yield from self._fit(trial, checkpoint_of(folder))
                    if ended is not None:
                        keep_result(ended, folder)
                    return ended
        remove_leftovers(folder)
        self._report(trial.options.steps)
        return load_result(trial, folder)

    def _fit(self, trial: Trial, checkpoint: Path | None) -> Course[TrialResult | None]:
        """Run a trial; return None if it was interrupted."""
        if self._asked_to_stop():
            return None
        factors = [factor.detach().clone(memory_format=torch.contiguous_format) for factor in trial.factors]
        model = model_of(factors)
        run = make_run(
            model,
            trial.train,
            trial.spec,
            trial.options,
            trial.measures(),
            interrupted=self._asked_to_stop,
            report=self._report,
            given=factors,
            checkpoint=checkpoint,
        )
        result = yield from run_course(run, [(model, trial.train)])
        self._report(trial.options.steps - result.steps)
        return None if result.stopped_because == "interrupted" else TrialResult(trial, factors, result)

    def _asked_to_stop(self) -> bool:
        return self.failed is not None or self._interrupt.requested

    def _report(self, steps: int) -> None:
        with self._lock:
            self._bar.update(steps)


def _bar(trials: Sequence[Trial], progress: bool | None) -> tqdm:
    total = sum(trial.options.steps for trial in trials)
    return tqdm(total=total, unit="step", unit_scale=True, disable=None if progress is None else not progress)


def _by_device(trials: Sequence[Trial]) -> tuple[list[int], dict[torch.device, list[int]]]:
    """Return the indices of the trials on the CPU, and of those on each GPU."""
    on_cpu: list[int] = []
    on_gpus: dict[torch.device, list[int]] = {}
    for place, trial in enumerate(trials):
        device = trial.train.device
        (on_gpus.setdefault(device, []) if device.type == "cuda" else on_cpu).append(place)
    return on_cpu, on_gpus


def _multiprocessors(gpu: torch.device) -> int:
    """Return the number of multiprocessors of a GPU, each of which executes one block at a time."""
    count: int = torch.cuda.get_device_properties(gpu).multi_processor_count
    return count
