"""Whole runs of gradient descent on a chain of factors, in native code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from dmf_fast.files.checkpoint import held_folder
from dmf_fast.observations import Observations
from dmf_fast.training.descent_arguments import check_descent
from dmf_fast.training.descent_options import DescentOptions, DescentStoppedBecause
from dmf_fast.training.descent_run import DescentCallback, DescentRun
from dmf_fast.training.engines import engine_for
from dmf_fast.training.factor_measures import FactorMeasures
from dmf_fast.training.history import history_table
from dmf_fast.training.identity import identity_of_descent
from dmf_fast.training.interrupt import DeferredInterrupt
from dmf_fast.training.recording import Recording
from dmf_fast.training.rules import Rule


@dataclass(frozen=True)
class DescentResult:
    """How a run went.

    Attributes:
        history: one row for every recorded step, see `dmf_fast.training.history_table`; a `pyarrow.Table`,
            for ``to_pandas()``, ``polars.from_arrow`` or ``pyarrow.parquet.write_table``.
        best_step: the step whose state the factors have now, the one of the best recorded validation RMSE;
            None without a validation set.
        stopped_because: ``"steps"``, ``"train_loss_threshold"``, ``"gradient_norm_threshold"``,
            ``"patience"``, ``"callback"``, ``"max_seconds"``, ``"interrupted"`` or ``"diverged"`` (the loss
            or the average of GroupRMSprop is not finite).
        steps: updates made, those before a resume included.
        seconds: of training, those before a resume included.

    """

    history: pa.Table
    best_step: int | None
    stopped_because: DescentStoppedBecause
    steps: int
    seconds: float


def descend(
    factors: Sequence[Tensor],
    train: Observations,
    rule: Rule,
    options: DescentOptions = DescentOptions(),  # noqa: B008 (frozen)
    *,
    recording: Recording = Recording(),  # noqa: B008 (frozen)
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
    callbacks: Sequence[DescentCallback] = (),
    checkpoint: Path | str | None = None,
    resume: bool = False,
) -> DescentResult:
    """Minimise the loss of ``W_N ⋯ W_1`` on ``train`` by gradient descent, all entries in every step.

    The steps are those of a loop over `dmf_fast.completion_loss` and the torch optimiser that ``rule`` names,
    but run in native code: Python sees the run where a row is recorded, and for a moment every tenth of a
    second. Small problems run on one core and stay in its caches; large ones use the sweep over tiles, and
    torch's products and threads. On one machine, and with as many threads, a run is bitwise the same every
    time; small problems are so for any number of threads.

    The row of a step measures the state *before* its update. With a validation set the factors have the
    state of its best recorded RMSE at the end. Ctrl-C ends the run within about a tenth of a second or one
    step, and the result so far is returned; a second one raises `KeyboardInterrupt` at once.

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``, float32 or float64: the start.
            They are changed in place, so ``model.factors`` trains a model.
        train: observed entries, of the shape, dtype and device of the product.
        rule: `GradientDescent`, `GroupRMSprop` or `Adam`.
        options: how long.
        recording: when a row is recorded and what it holds.
        validation: chooses the best row, and stops the run where ``options.patience`` says so.
        test: measured, and chooses nothing.
        truth: the whole matrix, ``(m, n)``, to measure the reconstruction error against.
        callbacks: called with a `DescentProgress` at every row; one that returns True ends the run.
        checkpoint: folder to keep the state of the run in, see ``options.checkpoint_every``.
        resume: go on from ``checkpoint`` where it holds one: with the same arguments (except about stopping)
            the numbers are bitwise those of a run that never stopped.

    Raises:
        TypeError: dtypes disagree or are not float32 or float64, or ``truth`` is no tensor of real numbers.
        ValueError: shapes or devices disagree, there is nothing to train on, numbers of the factors share
            memory, ``patience`` has no validation set to look at, the checkpoint is damaged, of another run
            or in use by one, or holds a run although ``resume`` is False.

    Example:
        >>> import dmf_fast
        >>> from dmf_fast.training import GradientDescent
        >>> train = dmf_fast.Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
        >>> factors = [torch.eye(2), torch.eye(2)]
        >>> options = DescentOptions(train_loss_threshold=1e-6)
        >>> descend(factors, train, GradientDescent(lr=0.1), options).stopped_because
        'train_loss_threshold'

    """
    measures = FactorMeasures(validation, test, truth, recording)
    check_descent(factors, train, measures, options)
    with (
        held_folder(checkpoint, every=options.checkpoint_every, resume=resume) as folder,
        DeferredInterrupt() as interrupt,
        _bar(options) as bar,
    ):
        run = start_run(
            factors,
            train,
            rule,
            options,
            measures,
            tuple(callbacks),
            folder,
            interrupted=lambda: interrupt.requested,
            advanced=bar.update,
        )
        return finish_run(run, factors)


def start_run(
    factors: Sequence[Tensor],
    train: Observations,
    rule: Rule,
    options: DescentOptions,
    measures: FactorMeasures,
    callbacks: tuple[DescentCallback, ...],
    checkpoint: Path | None,
    *,
    interrupted: Callable[[], bool],
    advanced: Callable[[int], None],
) -> DescentRun:
    """Return a run at its start, or where its checkpoint left it; all arguments are checked."""
    data = {"train": train, "validation": measures.validation, "test": measures.test}
    run = DescentRun(
        engine_for(factors, train, rule, options),
        options,
        measures,
        callbacks,
        checkpoint,
        identity_of_descent(factors, rule, options, measures.recording, data, measures.truth)
        if checkpoint
        else {},
        interrupted,
        advanced,
    )
    run.open_checkpoint()
    advanced(run.engine.step)
    return run


@torch.no_grad()
def finish_run(run: DescentRun, factors: Sequence[Tensor]) -> DescentResult:
    """Make the steps of a run, write its end or its best state into ``factors`` and report."""
    stopped_because = run.train_until_done()
    best = run.best.model
    ends = run.engine.factors() if best is None else list(best.values())
    for factor, end in zip(factors, ends, strict=True):
        factor.copy_(end)
    return DescentResult(
        history_table(run.rows), run.best.step, stopped_because, run.engine.step, run.seconds
    )


def _bar(options: DescentOptions) -> tqdm:
    # tqdm's None: only where standard error is a terminal.
    hidden = None if options.progress is None else not options.progress
    return tqdm(total=options.steps, unit="step", unit_scale=True, disable=hidden)
