"""`fit`: trains a model with any engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from dmf_fast.files.checkpoint import held_folder
from dmf_fast.html import html_table
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.optim.spec import OptimizerLike, OptimizerSpec
from dmf_fast.training.arguments import bound_or_spec, check_fit, checked_callbacks, model_of
from dmf_fast.training.course import Course, drive
from dmf_fast.training.engines.choice import make_engine
from dmf_fast.training.history import History
from dmf_fast.training.identity import identity_of_run
from dmf_fast.training.interrupt import DeferredInterrupt
from dmf_fast.training.measures import Measures
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording
from dmf_fast.training.run import Callback, Run, StoppedBecause
from dmf_fast.training.start import has_left_start

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A run of fewer steps is not expected to have left its start, unless it has converged there.
_STEPS_TO_LEAVE = 100
_AT_REST = ("patience", "gradient_norm_threshold")


@dataclass(frozen=True)
class FitResult:
    """The result of a run.

    Attributes:
        history: the recorded rows: ``result.history["train_loss"][-1]`` is a float; see
            `dmf_fast.training.History`.
        best_step: the step with the lowest recorded validation RMSE, whose state the parameters now have;
            None without a validation set.
        stopped_because: ``"steps"``, ``"train_loss_threshold"``, ``"gradient_norm_threshold"``,
            ``"patience"``, ``"callback"``, ``"max_seconds"``, ``"interrupted"`` or ``"diverged"`` (the loss,
            or what the optimizer keeps, is not finite).
        steps: number of updates, including those before a resume.
        seconds: training time, including that before a resume.
        engine: what made the steps: ``"native"``, ``"torch"``, ``"cuda_block"`` or ``"cuda_graph"``.
        not_native_because: why the engine was ``"torch"``; None otherwise.
        left_start: False if the product of the factors still does not contribute: the train loss with it and
            without it agrees to 0.1%. Near zero the gradients of all factors vanish, and from depth 3 on
            weight decay makes zero a local minimum.

    """

    history: History
    best_step: int | None
    stopped_because: StoppedBecause
    steps: int
    seconds: float
    engine: str
    not_native_because: str | None = None
    left_start: bool = True

    def plot(self) -> list[Axes]:
        """Plot the history; see `History.plot`."""
        return self.history.plot()

    def _repr_html_(self) -> str:
        names = ("stopped_because", "steps", "best_step", "seconds", "engine", "not_native_because")
        facts = {name.replace("_", " "): [getattr(self, name)] for name in names}
        known = {name: value for name, value in facts.items() if value != [None]}
        return html_table(pa.table(known)) + self.history._repr_html_()


def fit(
    model: DeepMatrixFactorization | Sequence[Tensor],
    train: Observations,
    optimizer: OptimizerLike,
    options: FitOptions = FitOptions(),  # noqa: B008 (frozen)
    *,
    recording: Recording = Recording(),  # noqa: B008 (frozen)
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
    scheduler: LRScheduler | Callable[[torch.optim.Optimizer], LRScheduler | None] | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | str | None = None,
    resume: bool = False,
) -> FitResult:
    """Train a model by minimizing the loss of ``W_N ⋯ W_1`` over all entries, or a batch of them per step.

    The steps are those of a loop over `dmf_fast.completion_loss`, its backward pass and ``optimizer.step()``.
    Native code makes them if it computes the same: for `torch.optim.SGD`, `torch.optim.Adam`,
    `dmf_fast.optim.GroupRMSprop`, `dmf_fast.optim.AdaptiveGradientDescent` and, with two factors,
    `dmf_fast.optim.PreconditionedLBFGS`, with all entries in each step. For small problems,
    where a loop spends its time in Python, that is several times as fast. ``FitResult.engine`` tells which
    engine made the steps; `dmf_fast.explain` tells it beforehand. On one machine, runs are bit-identical
    every time and, in native code, for any number of threads.

    A row of the history measures the state *before* the update of its step. With a validation set, the
    parameters end in the state with the lowest recorded validation RMSE. Ctrl-C ends the run within about
    0.1 seconds or one step and returns the result so far; a second Ctrl-C raises `KeyboardInterrupt` at once.

    With `dmf_fast.distributed.RowBlocks` the processes train together: each calls `fit` with the same
    arguments, where the parameters are `DTensor`s, and gets the same result. All end at the same step, even
    if Ctrl-C, ``options.max_seconds`` or a callback ends only one of them.

    `fit` warns if the run ends without having left its start near zero, see ``FitResult.left_start``.

    Args:
        model: the model to train in place: a `dmf_fast.DeepMatrixFactorization`, or bare factors
            ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``.
        train: observed entries, of the shape, dtype and device of the model.
        optimizer: a torch optimizer of the parameters, in any state; or a callable that makes one from
            parameters, such as ``functools.partial(torch.optim.Adam, lr=1e-3)``.
        options: how long and how to train.
        recording: when to record a row of the history and what it holds.
        validation: entries that select the best row and, with ``options.patience``, stop the run.
        test: entries that are only measured.
        truth: the whole matrix, ``(m, n)``, to measure the reconstruction error.
        scheduler: a learning rate scheduler of the optimizer, or a function that makes one from it; it makes
            a step after each update.
        callbacks: called with a `Progress` at each row; if one returns True, the run ends.
        checkpoint: folder for the state of the run, see ``options.checkpoint_every``.
        resume: continue from ``checkpoint`` if it holds a run. With the same arguments, except those about
            stopping, the run resumes bit-identically. The state of callbacks is not saved.

    Raises:
        TypeError: an argument has another type than stated here, or dtypes differ.
        ValueError: shapes or devices do not match; there are no entries of positive weight to train or
            validate on; factors share memory; ``options.engine`` does not support the steps; or the
            checkpoint is damaged, in use, of another run, or exists although ``resume`` is False.

    Example:
        >>> from functools import partial
        >>> train = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
        >>> factors = [torch.eye(2), torch.eye(2)]
        >>> options = FitOptions(train_loss_threshold=1e-6)
        >>> result = fit(factors, train, partial(torch.optim.SGD, lr=0.1), options)
        >>> result.stopped_because, result.engine
        ('train_loss_threshold', 'native')

    """
    measures = Measures(validation, test, truth, recording)
    given = None if isinstance(model, DeepMatrixFactorization) else model
    trained = model_of(model)
    rule = bound_or_spec(optimizer)
    check_fit(trained, train, rule, measures, options, given)
    called = checked_callbacks(callbacks)
    with running(options, checkpoint, train, resume=resume) as (folder, interrupted, report):
        run = make_run(
            trained,
            train,
            rule,
            options,
            measures,
            given=given,
            scheduler=scheduler,
            callbacks=called,
            checkpoint=folder,
            interrupted=interrupted,
            report=report,
        )
        result = drive(run_course(run, [(trained, train)]))
    _warn_of_start(result)
    return result


def make_run(
    model: DeepMatrixFactorization,
    train: Observations,
    optimizer: torch.optim.Optimizer | OptimizerSpec,
    options: FitOptions,
    measures: Measures,
    *,
    interrupted: Callable[[], bool],
    report: Callable[[int], object],
    given: Sequence[Tensor] | None = None,
    scheduler: Any = None,
    callbacks: tuple[Callback, ...] = (),
    checkpoint: Path | None = None,
) -> Run:
    """Return a run at its start; the arguments must have been checked."""
    engine, reason = make_engine(model, train, optimizer, options, given, scheduler)
    identity = {}
    if checkpoint is not None:
        data = {"train": train, "validation": measures.validation, "test": measures.test}
        identity = identity_of_run(model, optimizer, options, measures, data, engine.name, scheduler)
    return Run(
        engine,
        options,
        measures,
        callbacks,
        checkpoint,
        identity,
        interrupted,
        report,
        train.sharding,
        reason,
    )


def run_course(
    run: Run, trained: Sequence[tuple[DeepMatrixFactorization, Observations]]
) -> Course[FitResult]:
    """Execute a run from its start or its checkpoint, leaving the models in their final or best state."""
    engine, options = run.engine, run.options
    if options.seed is not None:
        torch.manual_seed(options.seed)
    run.open_checkpoint()
    run.report(engine.step)
    stopped_because = yield from run.train_until_done()
    engine.finish(best=run.best.step is not None)
    return FitResult(
        History.of_rows(run.rows),
        run.best.step,
        stopped_because,
        engine.step,
        run.seconds,
        engine.name,
        run.not_native_because if engine.name == "torch" else None,
        any(has_left_start(model, train) for model, train in trained),
    )


def generators_kept(
    options: Iterable[FitOptions], trained_on: Iterable[Observations]
) -> AbstractContextManager[None]:
    """Restore torch's generators afterwards if a run has a seed of its own."""
    gpus = {train.device for train in trained_on if train.device.type == "cuda"}
    return torch.random.fork_rng(list(gpus), enabled=any(one.seed is not None for one in options))


@contextmanager
def running(
    options: FitOptions, checkpoint: Path | str | None, train: Observations, *, resume: bool
) -> Iterator[tuple[Path | None, Callable[[], bool], Callable[[int], object]]]:
    """Yield the checkpoint folder, a function that returns whether Ctrl-C came, and one that moves the bar.

    Gradients are enabled whatever the mode of the caller, and a run with a seed restores torch's generators.
    With several processes, only the first one shows the bar.
    """
    sharding = train.sharding
    # None tells tqdm to show it only if standard error is a terminal.
    hidden = True if sharding.rank else None if options.progress is None else not options.progress
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        generators_kept([options], [train]),
        held_folder(checkpoint, every=options.checkpoint_every, resume=resume, sharding=sharding) as folder,
        DeferredInterrupt() as interrupt,
        tqdm(total=options.steps, unit="step", unit_scale=True, disable=hidden) as bar,
    ):
        yield folder, lambda: interrupt.requested, bar.update


def _warn_of_start(result: FitResult) -> None:
    """Warn if a run had time to leave its start but did not."""
    if result.left_start or (result.steps < _STEPS_TO_LEAVE and result.stopped_because not in _AT_REST):
        return
    warnings.warn(
        f"The run has not left its start after {result.steps:,} steps: the product of the factors does not "
        "contribute to the predictions. Start with larger factors, make more steps, or lower the weight "
        "decay, which from depth 3 on keeps small factors at zero",
        stacklevel=3,
    )
