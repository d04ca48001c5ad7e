"""A whole job: search for the best step by validation entries, then train on all entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dmf_fast import cuda
from dmf_fast.checks import one_of
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.rescaling import rescaled
from dmf_fast.completion.scaled_model import ScaledFactorization
from dmf_fast.completion.schedules import make_scheduler
from dmf_fast.completion.start import gaussian_start
from dmf_fast.completion.units import in_unit, measured, measured_history, options_in_unit, value_unit
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training import Callback, FitOptions, FitResult, fit
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.history import Row

# Values between this and its inverse have squares, and parts of these, that float32 holds.
_SQUARABLE = 1e15
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class CompletedMatrix:
    """A trained model, the runs that it comes from, and its errors, None where nothing is known.

    Attributes:
        options: of the job.
        model: of the matrix itself, without scales, on the device of the observations.
        search: the run without the validation entries, which chose its best step.
        refit: the run on all entries, up to the same train loss; None where nothing was trained again.
        train_loss: mean squared residual of ``model`` over what it was trained on, without weight decay.
        validation_rmse: of the best step of the search.
        test_rmse: of ``model``.
        reconstruction_mse: mean squared error over the whole matrix, where the truth is known.

    """

    options: CompletionOptions
    model: DeepMatrixFactorization
    search: FitResult
    refit: FitResult | None
    train_loss: float
    validation_rmse: float | None
    test_rmse: float | None
    reconstruction_mse: float | None

    @property
    def result(self) -> FitResult:
        """The run that ``model`` comes from."""
        return self.search if self.refit is None else self.refit

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.search.seconds + (0.0 if self.refit is None else self.refit.seconds)

    @property
    def merit(self) -> tuple[float, int]:
        """What orders models, the best first: validation RMSE, then depth, the deepest first."""
        rmse = self.validation_rmse
        return (float("inf") if rmse is None else rmse, -self.options.depth)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C has ended the job before its time."""
        return self.result.stopped_because == "interrupted"

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return self.result.stopped_because == "diverged"


def split_validation(
    observed: Observations, options: CompletionOptions
) -> tuple[Observations, Observations | None]:
    """Return the entries to train on and those that validate, None where there would be none.

    >>> observed = Observations([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0])
    >>> [len(part) for part in split_validation(observed, CompletionOptions(validation_fraction=0.3))]
    [2, 1]
    """
    if not options.validation_fraction:
        return observed, None
    train, validation = observed.split(options.validation_fraction, options.seed)
    return (train, validation) if validation.total_weight and train.total_weight else (observed, None)


def complete_matrix(
    observed: Observations,
    options: CompletionOptions,
    *,
    train: Observations | None = None,
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
) -> CompletedMatrix:
    """Train on ``observed`` as `CompletionOptions` says.

    Args:
        observed: all entries that may be learned from.
        options: model, training, validation and refit.
        train: the entries of ``observed`` that the search trains on, where ``validation`` is given.
        validation: entries that choose the best step, instead of a random part of ``observed``. Without
            ``train`` they are no part of it, and there is no refit.
        test: measured, and chooses nothing.
        truth: the whole matrix, ``(m, n)``, to measure against.
        callbacks: as for `dmf_fast.training.fit`; both runs call them.
        checkpoint: folder for the states of both runs, ``search`` and ``refit``.
        resume: resume from them.

    Raises:
        ValueError, TypeError, OSError: as `dmf_fast.training.fit` raises.

    Example:
        >>> from dmf_fast.experiments import low_rank_problem
        >>> observed = low_rank_problem(9, 8, 1, 40, seed=0).train
        >>> options = CompletionOptions().changed({"steps": 4, "evaluate_every": 2})
        >>> completed = complete_matrix(observed, options)
        >>> completed.refit is not None, completed.interrupted
        (True, False)

    """
    if validation is None:
        train, validation = split_validation(observed, options)
    train = observed if train is None else train
    _check(observed, options)
    phase = _Phase.of(observed, options, test, truth, tuple(callbacks), checkpoint, resume)
    fit_options = options_in_unit(options.fit, phase.unit)
    if fit_options.seed is None:
        fit_options = replace(fit_options, seed=options.seed)
    if validation is None:
        fit_options = replace(fit_options, patience=None)
    searched = phase.run("search", train, validation, fit_options)
    search = searched.result
    ended = search.stopped_because in ("interrupted", "diverged")
    if not options.refit or train is observed or search.best_step is None or ended:
        return phase.completed(search, None, searched, searched)
    refitted = phase.run("refit", observed, None, _refit_options(fit_options, searched))
    return phase.completed(search, refitted.result, searched, refitted)


@dataclass(frozen=True)
class _Trained:
    """A run's model, how it went, and the row of the history that measured the model."""

    model: DeepMatrixFactorization
    result: FitResult
    row: Row


@dataclass(frozen=True)
class _Phase:
    """What the runs of a job share.

    In scaled coordinates values of any size are trained in a unit of their own, `value_unit`. Callbacks see
    the errors in it; what is returned is in the values themselves.
    """

    options: CompletionOptions
    unit: float
    device: torch.device
    home: torch.device
    test: Observations | None
    truth: Tensor | None
    callbacks: tuple[Callback, ...]
    checkpoint: Path | None
    resume: bool

    @classmethod
    def of(
        cls,
        observed: Observations,
        options: CompletionOptions,
        test: Observations | None,
        truth: Tensor | None,
        callbacks: tuple[Callback, ...],
        checkpoint: Path | None,
        resume: bool,
    ) -> _Phase:
        unit = value_unit(observed)
        if options.coordinates == "plain":
            _refuse_lost_squares(observed, unit)
            unit = 1.0
        if checkpoint is not None:
            checkpoint.mkdir(parents=True, exist_ok=True)
        truth = truth if truth is None or unit == 1 else truth.double() / unit
        device = device_of(options.device, observed.device)
        return cls(options, unit, device, observed.device, test, truth, callbacks, checkpoint, resume)

    def run(
        self, name: str, train: Observations, validation: Observations | None, options: FitOptions
    ) -> _Trained:
        """Train a model from its start."""
        train = self._moved(train)
        validation, test = (None if one is None else self._moved(one) for one in (validation, self.test))
        start = gaussian_start(self.options, train)
        changes = self.options.schedule != "constant" or self.options.warmup
        result = fit(
            start.model,
            train,
            start.optimizer,
            options,
            recording=self.options.recording,
            validation=validation,
            test=test,
            truth=self.truth,
            scheduler=partial(
                make_scheduler,
                self.options.schedule,
                steps=self.options.fit.steps,
                warmup=self.options.warmup,
            )
            if changes
            else None,
            callbacks=self.callbacks,
            checkpoint=None if self.checkpoint is None else self.checkpoint / name,
            resume=self.resume,
        )
        row = _row_of(result)
        if options.batches > 1:  # the history has the loss of a batch
            row["train_loss"] = mean_squared_error(start.model, train)
        return _Trained(start.model, result, row)

    def completed(
        self, search: FitResult, refit: FitResult | None, searched: _Trained, last: _Trained
    ) -> CompletedMatrix:
        """Return the model that counts, without scales, and all errors in the values themselves."""
        model = last.model
        model = model.plain() if isinstance(model, ScaledFactorization) else model
        model = model.to(self.home)

        def error(name: str, row: Row) -> float | None:
            return measured(name, row[name], self.unit)

        train_loss = error("train_loss", last.row)
        assert train_loss is not None
        return CompletedMatrix(
            self.options,
            model if self.unit == 1 else rescaled(model, mean=0.0, scale=self.unit),
            self._measured(search),
            None if refit is None else self._measured(refit),
            train_loss=train_loss,
            validation_rmse=error("validation_rmse", searched.row),
            test_rmse=error("test_rmse", last.row),
            reconstruction_mse=error("reconstruction_mse", last.row),
        )

    def _moved(self, entries: Observations) -> Observations:
        return in_unit(entries, self.unit).to(self.device)

    def _measured(self, result: FitResult) -> FitResult:
        return replace(result, history=measured_history(result.history, self.unit))


def device_of(name: str, home: torch.device = _CPU) -> torch.device:
    """Return where to compute: ``"auto"`` is a GPU that can be used, else ``home``.

    Raises a `ValueError` where the device that is named cannot be used.

    >>> device_of("cpu")
    device(type='cpu')
    """
    if name == "auto":
        usable = cuda.missing_reason() is None and torch.cuda.is_available()
        return torch.device("cuda") if usable else home
    device = torch.device(one_of("device", name.partition(":")[0], ("auto", "cpu", "cuda")))
    cuda.check_usable(device)
    return torch.device(name)


def _row_of(result: FitResult) -> Row:
    """Return the row of the state in which a run has left its model."""
    rows = result.history
    place = len(rows) - 1
    if result.best_step is not None:
        place = rows["step"].to_pylist().index(result.best_step)
    return {name: rows[name][place].as_py() for name in rows.column_names}


def _refit_options(options: FitOptions, searched: _Trained) -> FitOptions:
    """Return how long to train on all entries: as closely as the best step of the search fitted its own.

    The loss tells how far a run has come better than the number of steps, whose lengths depend on the data.
    The loss of a batch would not.
    """
    best = searched.result.best_step
    assert best is not None
    options = replace(options, train_loss_threshold=None, patience=None)
    if options.batches > 1:
        return replace(options, steps=best)
    return replace(options, steps=best + best // 4, train_loss_threshold=searched.row["train_loss"])


def _check(observed: Observations, options: CompletionOptions) -> None:
    if options.optimizer == "adaptive-gd" and options.fit.batches > 1:
        raise ValueError(
            f"`batches` must be 1 with adaptive-gd, which takes all entries in every step, got "
            f"{options.fit.batches}; choose another optimizer, such as group-rmsprop"
        )
    if observed.total_weight == 0:
        raise ValueError("`train` must hold an entry with a weight above zero, got none")


def _refuse_lost_squares(train: Observations, unit: float) -> None:
    if train.dtype != torch.float64 and not 1 / _SQUARABLE < unit < _SQUARABLE:
        raise ValueError(
            f"`train` must hold values whose squares fit float32, got some of about {unit:.0e}; scale the "
            "values, or use float64"
        )
