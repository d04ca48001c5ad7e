"""`fit`: the one way to train, whatever makes the steps."""

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

# A run of fewer steps is not expected to have left its start, unless it has come to rest there.
_STEPS_TO_LEAVE = 100
_AT_REST = ("patience", "gradient_norm_threshold")


@dataclass(frozen=True)
class FitResult:
    """How a run went.

    Attributes:
        history: the recorded rows: ``result.history["train_loss"][-1]`` is a float; see
            `dmf_fast.training.History`.
        best_step: the step whose state the parameters have now, the one of the best recorded validation RMSE;
            None without a validation set.
        stopped_because: ``"steps"``, ``"train_loss_threshold"``, ``"gradient_norm_threshold"``,
            ``"patience"``, ``"callback"``, ``"max_seconds"``, ``"interrupted"`` or ``"diverged"`` (the loss,
            or what the optimizer keeps, is not finite).
        steps: updates made, those before a resume included.
        seconds: of training, those before a resume included.
        engine: what made the steps: ``"native"``, ``"torch"``, ``"cuda_block"`` or ``"cuda_graph"``.
        not_native_because: why it was ``"torch"``; None where it was not.
        left_start: False where the product of the factors still contributes nothing: with and without it the
            train loss is the same to a thousandth. Near zero the gradients of all factors vanish, and from
            depth 3 on a weight decay makes zero a local minimum.

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
    """Minimize the loss of ``W_N ⋯ W_1`` on ``train``, in every step that of all entries or of one batch.

    The steps are those of a loop over `dmf_fast.completion_loss`, its backward pass and ``optimizer.step()``.
    Native code makes them wherever it computes the same: for `torch.optim.SGD`, `torch.optim.Adam`,
    `dmf_fast.optim.GroupRMSprop`, `dmf_fast.optim.AdaptiveGradientDescent` and, for two factors,
    `dmf_fast.optim.PreconditionedLBFGS`, with all entries in every step.
    It is 5 to 20 times as fast for small problems, where a loop spends its time in Python. The result says
    what made the steps, `dmf_fast.explain` says it before. On one machine a run is bitwise the same every
    time; in native code for any number of threads.

    The row of a step measures the state *before* its update. With a validation set the parameters have the
    state of the best recorded RMSE at the end. Ctrl-C ends the run within about a tenth of a second or one
    step, and the result so far is returned; a second one raises `KeyboardInterrupt` at once.

    Of `dmf_fast.distributed.RowBlocks` the processes that share them train together: each calls `fit` with
    the same arguments, of which the parameters are `DTensor`s, and has the same result. They end at one step,
    also where Ctrl-C, ``options.max_seconds`` or a callback ends only one of them.

    A run that ends without having left its start near zero warns and says so, ``FitResult.left_start``.

    Args:
        model: trained in place: a `dmf_fast.DeepMatrixFactorization`, or bare factors ``[W_1, …, W_N]``,
            ``W_j`` of shape ``(d_j, d_{j-1})``.
        train: observed entries, of the shape, dtype and device of the model.
        optimizer: any of torch's over the parameters, with the state that it has; or a callable that makes
            one of parameters, such as ``functools.partial(torch.optim.Adam, lr=1e-3)``.
        options: how long and how.
        recording: when a row is recorded and what it holds.
        validation: chooses the best row, and stops the run where ``options.patience`` says so.
        test: measured, and chooses nothing.
        truth: the whole matrix, ``(m, n)``, to measure the reconstruction error against.
        scheduler: of the optimizer's learning rates, or a function of the optimizer that makes one; it makes
            a step after every update.
        callbacks: called with a `Progress` at every row; one that returns True ends the run.
        checkpoint: folder to keep the state of the run in, see ``options.checkpoint_every``.
        resume: continue from ``checkpoint`` where it holds one: with the same arguments (except about
            stopping) the numbers are bitwise those of a run that never stopped. The state of callbacks is not
            kept.

    Raises:
        TypeError: an argument is of another type than said here, or dtypes disagree.
        ValueError: shapes or devices disagree, there is nothing to train or validate on, numbers of the
            factors share memory, ``options.engine`` cannot make these steps, the checkpoint is damaged, of
            another run or in use by one, or holds a run although ``resume`` is False.

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
    """Return the run of arguments that are checked, at its start."""
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
    """Make a run from its start or its checkpoint; every model is left in the state that counts."""
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
    """Leave torch's generators as they are where a run has a seed of its own."""
    gpus = {train.device for train in trained_on if train.device.type == "cuda"}
    return torch.random.fork_rng(list(gpus), enabled=any(one.seed is not None for one in options))


@contextmanager
def running(
    options: FitOptions, checkpoint: Path | str | None, train: Observations, *, resume: bool
) -> Iterator[tuple[Path | None, Callable[[], bool], Callable[[int], object]]]:
    """Give a run its folder for checkpoints, what says whether Ctrl-C came, and what moves the bar.

    Gradients are computed whatever mode the caller is in, and a run with a seed leaves torch's generators as
    they were. Of several processes the first one shows the bar.
    """
    sharding = train.sharding
    # tqdm's None: only where standard error is a terminal.
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
    """Warn of a run that had the time to leave its start, and has not."""
    if result.left_start or (result.steps < _STEPS_TO_LEAVE and result.stopped_because not in _AT_REST):
        return
    warnings.warn(
        f"The run has not left its start in {result.steps:,} steps: the product of the factors contributes "
        "nothing to the predictions. Begin with larger factors, make more steps, or lower the weight decay, "
        "which from depth 3 on keeps small factors at zero",
        stacklevel=3,
    )
