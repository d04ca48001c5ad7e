"""Training with evaluations, early stopping and an exact resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from dmf_fast.files.checkpoint import held_folder
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training.batches import Batches
from dmf_fast.training.history import Measures, history_table
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording
from dmf_fast.training.run import Callback, Run, StoppedBecause


@dataclass(frozen=True)
class FitResult:
    """How a run went.

    Attributes:
        history: one row an evaluation, see `dmf_fast.training.history_table`.
        best_step: the step whose state the model has now, the one of the best validation RMSE; None without
            a validation set.
        stopped_because: ``"steps"``, ``"train_loss_threshold"``, ``"patience"``, ``"callback"``,
            ``"max_seconds"``, ``"interrupted"`` or ``"diverged"`` (the train loss is not finite).
        steps: updates made, those before a resume included.
        seconds: of training, those before a resume included.

    """

    history: pa.Table
    best_step: int | None
    stopped_because: StoppedBecause
    steps: int
    seconds: float


def fit(
    model: DeepMatrixFactorization,
    train: Observations,
    optimizer: torch.optim.Optimizer,
    options: FitOptions = FitOptions(),  # noqa: B008 (frozen)
    *,
    recording: Recording = Recording(every=100, norms=False),  # noqa: B008 (frozen)
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
    scheduler: LRScheduler | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | str | None = None,
    resume: bool = False,
) -> FitResult:
    """Minimise the loss of ``model`` on ``train``, in every step that of all entries or of one batch.

    As ``recording`` says and at the end, the state before the next update is measured. With
    a validation set the model has the state of its best RMSE at the end. Ctrl-C ends the run after the
    current step, as if it had been its last; a second one raises `KeyboardInterrupt` at once.

    Args:
        model: trained in place.
        train: observed entries, of the shape, dtype and device of the model.
        optimizer: any of torch's, or `dmf_fast.optim.GroupRMSprop`, over parameters of the model.
        options: how long and how.
        recording: when a row of the history is recorded, and how many singular values it has.
        validation: chooses the best step, and stops the run where ``options.patience`` says so.
        test: measured, and chooses nothing.
        truth: the whole matrix, ``(m, n)``, to measure the reconstruction error against.
        scheduler: of the optimiser's learning rates; it makes a step after every update.
        callbacks: called with a `Progress` at every evaluation; one that returns True ends the run.
        checkpoint: folder to keep the state of the run in: every ``options.checkpoint_every`` steps and at
            the end, unless the run has diverged.
        resume: go on from ``checkpoint`` where it holds one: with the same model, optimiser, data and options
            (except those about stopping) the numbers are bitwise those of a run that never stopped. The
            evaluation at which a run has ended is repeated; the state of callbacks is not kept.

    Raises:
        ValueError: shapes disagree, there is nothing to train or validate on, the checkpoint is damaged, of
            another run or in use by one, or holds a run although ``resume`` is False.

    Example:
        >>> observations = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
        >>> model = DeepMatrixFactorization((2, 2), depth=2, init_scale=0.1, seed=0)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> fit(model, observations, optimizer, FitOptions(train_loss_threshold=1e-6)).stopped_because
        'train_loss_threshold'

    """
    measures = Measures(validation, test, truth, recording.singular_value_count(model.shape))
    _check(model, train, optimizer, measures)
    with held_folder(checkpoint, every=options.checkpoint_every or None, resume=resume) as folder:
        batches = Batches(train, options.batches, options.seed or 0)
        run = Run(
            model,
            train,
            batches,
            optimizer,
            scheduler,
            options,
            recording,
            measures,
            tuple(callbacks),
            folder,
        )
        with torch.random.fork_rng(run.gpus, enabled=options.seed is not None):
            if options.seed is not None:
                torch.manual_seed(options.seed)
            run.open_checkpoint()
            stopped_because = run.train_until_done()
    if run.best.model is not None:
        model.load_state_dict(run.best.model)
    return FitResult(history_table(run.rows), run.best.step, stopped_because, run.step, run.seconds)


def _check(
    model: DeepMatrixFactorization,
    train: Observations,
    optimizer: torch.optim.Optimizer,
    measures: Measures,
) -> None:
    if train.total_weight == 0:
        raise ValueError("train must hold an entry with a weight above zero, but it holds none.")
    if measures.validation is not None and measures.validation.total_weight == 0:
        raise ValueError("validation must hold an entry with a weight above zero, or be None; it holds none.")
    for name, observations in (
        ("train", train),
        ("validation", measures.validation),
        ("test", measures.test),
    ):
        if observations is not None and observations.shape != model.shape:
            raise ValueError(f"{name} has shape {observations.shape}, but the model has {model.shape}.")
    if measures.truth is not None and measures.truth.shape != model.shape:
        raise ValueError(f"truth has shape {tuple(measures.truth.shape)}, but the model has {model.shape}.")
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("optimizer must hold parameters of the model, but it holds none of them.")
