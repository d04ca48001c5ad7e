"""The state that the runs of a job share, and the refit, which repeats them on all entries."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dmf_fast import cuda
from dmf_fast.checks import one_of
from dmf_fast.completion.completed import CompletedMatrix
from dmf_fast.completion.folds import Parts, bias_tolerance, biases_of_folds
from dmf_fast.completion.lbfgs import is_fast, prepared_warm, warm_start
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.phases import begin
from dmf_fast.completion.refit import refit_options
from dmf_fast.completion.rescaling import rescaled
from dmf_fast.completion.scaled_model import ScaledFactorization
from dmf_fast.completion.schedules import make_scheduler
from dmf_fast.completion.search import Candidate, PhaseRun, Search
from dmf_fast.completion.starts import Prepared, Start
from dmf_fast.completion.units import in_unit, measured, measured_history, options_in_unit, value_unit
from dmf_fast.distributed import RowBlocks
from dmf_fast.evaluation.baselines import Biases
from dmf_fast.files.identity import sha256_of
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training import Callback, FitOptions, FitResult, Progress, Recording
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.history import Row
from dmf_fast.training.lockstep import Fold, fit_folds
from dmf_fast.training.measures import Measures

# The squares of values between this and its inverse, and fractions of them, fit in float32.
_SQUARABLE = 1e15
_CPU = torch.device("cpu")


@dataclass
class Job:
    """The state that the runs of a job share.

    In scaled coordinates, values of any size are divided by a unit, `value_unit`. Callbacks see errors in
    this unit; results are in units of the values.
    """

    observed: Observations
    options: CompletionOptions
    unit: float
    device: torch.device
    home: torch.device
    test: Observations | None
    truth: Tensor | None
    callbacks: tuple[Callback, ...]
    checkpoint: Path | None
    resume: bool
    steps_before: int = 0  # of finished phases, of the search or of the refit
    begun: float = 0.0  # when the search or the refit began

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
    ) -> Job:
        """Return the job; see `dmf_fast.completion.complete_matrix` for the arguments."""
        unit = value_unit(observed)
        if options.coordinates == "plain":
            _refuse_lost_squares(observed, unit)
            unit = 1.0
        if checkpoint is not None:
            checkpoint.mkdir(parents=True, exist_ok=True)
        truth = truth if truth is None or unit == 1 else truth.double() / unit
        device = device_of(options.device, observed.device)
        job = cls(
            observed, options, unit, device, observed.device, test, truth, callbacks, checkpoint, resume
        )
        job.test = None if test is None else job._moved(test)
        return job

    @property
    def fit_options(self) -> FitOptions:
        """The options of the runs, in the unit of the job."""
        fit = options_in_unit(self.options.fit, self.unit)
        return fit if fit.seed is not None else replace(fit, seed=self.options.seed)

    def begin(self) -> None:
        """Start counting steps and seconds, of the search or of the refit."""
        self.steps_before, self.begun = 0, time.perf_counter()

    def prepared(
        self, folds: Sequence[Parts], biases: Sequence[Biases | None] | None = None
    ) -> list[Prepared]:
        """Return what the phases need to know about every fold."""
        moved = [
            (self._moved(train), None if validation is None else self._moved(validation))
            for train, validation in folds
        ]
        if self.options.coordinates == "plain":
            biases = [None] * len(moved)
        biases = biases_of_folds(moved, self.options) if biases is None else biases
        return [
            Prepared.of(train, validation, self.options, own)
            for (train, validation), own in zip(moved, biases, strict=True)
        ]

    def run(
        self,
        name: str,
        starts: Sequence[Start],
        parts: Sequence[Prepared],
        options: FitOptions,
        *stops: Callback,
    ) -> PhaseRun:
        """Train the models of a phase; see `PhaseRunner`. ``stops`` are callbacks of this phase."""
        if options.max_seconds is not None:
            left = options.max_seconds - (time.perf_counter() - self.begun)
            options = replace(options, max_seconds=max(0.0, left))
        changes = self.options.schedule != "constant" or self.options.warmup
        changes = changes and not is_fast(starts[0].phase, self.options)  # L-BFGS finds its step lengths
        scheduler = partial(
            make_scheduler, self.options.schedule, steps=self.options.fit.steps, warmup=self.options.warmup
        )
        result = fit_folds(
            [
                Fold(start.model, part.train, start.optimizer, part.validation)
                for start, part in zip(starts, parts, strict=True)
            ],
            options,
            recording=self.options.recording,
            test=self.test,
            truth=self.truth,
            scheduler=scheduler if changes else None,
            callbacks=[
                *(partial(_counted, callback, self.steps_before) for callback in self.callbacks),
                *stops,
            ],
            checkpoint=None if self.checkpoint is None else self.checkpoint / f"{name}-{self._mark(starts)}",
            resume=self.resume,
        )
        self.steps_before += result.steps
        return PhaseRun(starts[0].phase, result, _loss_ratio(result), tuple(starts))

    def refitted(self, search: Search, folds: Sequence[Parts]) -> CompletedMatrix:
        """Repeat the phases of the chosen candidate on all entries."""
        whole = self._whole(search)
        self.begin()
        start, runs = None, []
        for before in search.chosen.runs:
            if is_fast(before.phase, self.options):
                start = warm_start(before.starts[0], whole, self.options, before.steps)
            else:
                start = begin(before.phase, whole, self.options, start)
            options, turn = refit_options(self.fit_options, before, start, whole, self.options)
            run = self.run(f"refit-{before.phase.name}", [start], [whole], options, *filter(None, [turn]))
            runs.append(run)
            if not (run.is_finished or (turn is not None and turn.is_passed)):
                break
        return self.completed(search, whole, tuple(runs), start)

    def _whole(self, search: Search) -> Prepared:
        """Return all entries, in the coordinates of the search if the refit continues it."""
        observed, (first, *_) = self._moved(self.observed), search.parts
        biases = None
        continues = bool(search.chosen.runs) and is_fast(search.chosen.runs[0].phase, self.options)
        # A refit that continues the search has learned biases: these are the baseline, and start close to
        # them.
        tolerance = 1.0 if continues else bias_tolerance(self.options)
        if first.coordinates is not None and first.coordinates.biases is not None:
            chosen = first.coordinates.biases
            biases = Biases.fit(observed, chosen.shrinkage, start=chosen, tolerance=tolerance)
        if continues:
            return prepared_warm(observed, first, biases)
        (whole,) = self.prepared([(self.observed, None)], [biases])
        return whole

    def completed(
        self, search: Search, trained_on: Prepared, refit: tuple[PhaseRun, ...], last: Start | None = None
    ) -> CompletedMatrix:
        """Return the chosen model, without scales, and all errors in units of the values."""
        chosen = search.chosen
        candidates = {one: self._candidate(one) for one in search.candidates}
        if not refit and chosen.runs:
            last = chosen.runs[-1].starts[0]
        if last is None:
            assert trained_on.coordinates is not None
            depth = 2 if self.options.depth == "auto" else self.options.depth
            trained: DeepMatrixFactorization = trained_on.coordinates.without_factors(depth)
        else:
            trained = last.model
        row = Measures(None, self.test, self.truth, Recording(norms=False)).columns(
            _State(trained, trained_on.train)
        )
        model = trained.plain() if isinstance(trained, ScaledFactorization) else trained
        model = model.to(self.home)
        train_loss = measured("train_loss", row["train_loss"], self.unit)
        assert train_loss is not None
        return CompletedMatrix(
            self.options,
            model if self.unit == 1 else rescaled(model, mean=0.0, scale=self.unit),
            tuple(candidates.values()),
            candidates[chosen],
            tuple(self._run(run) for run in search.runs),
            tuple(self._run(run) for run in refit),
            None if trained_on.coordinates is None else self._biases(trained_on.biases),
            train_loss=train_loss,
            test_rmse=measured("test_rmse", row["test_rmse"], self.unit),
            reconstruction_mse=measured("reconstruction_mse", row["reconstruction_mse"], self.unit),
        )

    def _mark(self, starts: Sequence[Start]) -> str:
        """Return a short string that identifies starts.

        A job that is resumed with more steps ends its first phase elsewhere; checkpoints of later phases then
        belong to other runs and are not used. With row blocks, the number of processes may change, and with
        it the last bits of a start: there, options and steps identify the start.
        """
        if isinstance(self.observed, RowBlocks):
            chosen = replace(self.options, fit=FitOptions(), recording=Recording())
            return f"after-{self.steps_before}-{hashlib.sha256(repr(chosen).encode()).hexdigest()[:12]}"
        return sha256_of(*(parameter for start in starts for parameter in start.model.parameters()))[:12]

    def _moved(self, entries: Observations) -> Observations:
        return in_unit(entries, self.unit).to(self.device)

    def _candidate(self, candidate: Candidate) -> Candidate:
        """Return a candidate in units of the values."""
        rmse = measured("validation_rmse", candidate.validation_rmse, self.unit)
        runs = tuple(self._run(run) for run in candidate.runs)
        return replace(candidate, validation_rmse=rmse, runs=runs)

    def _run(self, run: PhaseRun) -> PhaseRun:
        """Return a run in units of the values, without its models, which a job does not keep."""
        history = measured_history(run.result.history, self.unit)
        return replace(run, result=replace(run.result, history=history), starts=())

    def _biases(self, biases: Biases | None) -> Biases | None:
        if biases is None or self.unit == 1:
            return biases
        rows, columns = biases.row_biases * self.unit, biases.column_biases * self.unit
        return Biases(biases.mean * self.unit, rows, columns, biases.shrinkage)


@dataclass(frozen=True)
class _State:
    """A model that is measured like a run."""

    trained: DeepMatrixFactorization
    train: Observations
    gradient_norm: float = 0.0

    @property
    def loss(self) -> float:
        return mean_squared_error(self.trained, self.train)

    def mean_squared_error(self, observations: Observations) -> float:
        return mean_squared_error(self.trained, observations)

    def model(self) -> DeepMatrixFactorization:
        return self.trained


def _counted(callback: Callback, steps_before: int, progress: Progress) -> bool | None:
    """Call back with the step counted across all phases."""
    step = progress.step + steps_before
    return callback(replace(progress, step=step, row=progress.row | {"step": step}))


def _loss_ratio(result: FitResult) -> float:
    """Return the training loss of the final state relative to that of the first row."""
    rows: list[Row] = result.history.table.select(["step", "train_loss"]).to_pylist()
    first, last = rows[0]["train_loss"], rows[-1]["train_loss"]
    if result.best_step is not None:
        last = next(row["train_loss"] for row in rows if row["step"] == result.best_step)
    return last / first if first and last is not None else 1.0


def device_of(name: str, home: torch.device = _CPU) -> torch.device:
    """Return the device to compute on: for ``"auto"`` a usable GPU, or else ``home``.

    Raises a `ValueError` if the named device cannot be used.

    >>> device_of("cpu")
    device(type='cpu')
    """
    if name == "auto":
        usable = cuda.missing_reason() is None and torch.cuda.is_available()
        return torch.device("cuda") if usable else home
    device = torch.device(one_of("device", name.partition(":")[0], ("auto", "cpu", "cuda")))
    cuda.check_usable(device)
    return torch.device(name)


def _refuse_lost_squares(train: Observations, unit: float) -> None:
    if train.dtype != torch.float64 and not 1 / _SQUARABLE < unit < _SQUARABLE:
        raise ValueError(
            f"`train` must hold values whose squares fit float32, got some of about {unit:.0e}; scale the "
            "values, or use float64"
        )
