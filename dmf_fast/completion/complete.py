"""A whole job: search for the model that predicts validation entries best, then train it on all entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast import cuda
from dmf_fast.checks import one_of
from dmf_fast.completion.folds import Parts, fitted_biases, validation_folds
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.rescaling import rescaled
from dmf_fast.completion.scaled_model import ScaledFactorization
from dmf_fast.completion.schedules import make_scheduler
from dmf_fast.completion.search import Candidate, PhaseRun, Search
from dmf_fast.completion.starts import Prepared, Start, begin
from dmf_fast.completion.units import in_unit, measured, measured_history, options_in_unit, value_unit
from dmf_fast.evaluation.baselines import Biases
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training import Callback, FitOptions, FitResult, Progress, Recording
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.history import Row
from dmf_fast.training.lockstep import Fold, fit_folds
from dmf_fast.training.measures import Measures

# Values between this and its inverse have squares, and parts of these, that float32 holds.
_SQUARABLE = 1e15
_CPU = torch.device("cpu")
# Of the train loss above its least so far, which is more than a step that was too long.
_RISE = 1.05


@dataclass(frozen=True, eq=False)
class CompletedMatrix:
    """A trained model, the runs that it comes from, and its errors, None where nothing is known.

    Attributes:
        options: of the job.
        model: of the matrix itself, without scales, on the device of the observations.
        candidates: the models that validation entries chose among, the biases first; one without any.
        chosen: the candidate that ``model`` is. Where it is the biases, its factors are zero.
        search: the runs without the validation entries, of all candidates, in their order.
        refit: the runs of the chosen candidate on all entries; empty where nothing was trained again.
        biases: jointly fitted to what ``model`` was trained on, in the values themselves; None in plain
            coordinates or without biases.
        train_loss: mean squared residual of ``model`` over what it was trained on, without weight decay.
        test_rmse: of ``model``.
        reconstruction_mse: mean squared error over the whole matrix, where the truth is known.

    """

    options: CompletionOptions
    model: DeepMatrixFactorization
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    search: tuple[PhaseRun, ...]
    refit: tuple[PhaseRun, ...]
    biases: Biases | None
    train_loss: float
    test_rmse: float | None
    reconstruction_mse: float | None

    @property
    def validation_rmse(self) -> float | None:
        """Of the chosen candidate, at its best step, over all folds."""
        return self.chosen.validation_rmse

    @property
    def depth(self) -> int:
        """Number of factors of ``model``."""
        return len(self.model.factors)

    @property
    def result(self) -> FitResult:
        """The last run: the one that ``model`` comes from, unless the biases were chosen."""
        runs = self.refit or self.chosen.runs or self.search
        return runs[-1].result

    @property
    def steps(self) -> int:
        """Updates made in the search."""
        return sum(run.result.steps for run in self.search)

    @property
    def best_step(self) -> int | None:
        """Updates that lead to the chosen candidate; None without validation entries."""
        return None if self.validation_rmse is None else sum(run.steps for run in self.chosen.runs)

    @property
    def refit_steps(self) -> int:
        """Updates made on all entries."""
        return sum(run.result.steps for run in self.refit)

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return sum(run.result.seconds for run in (*self.search, *self.refit))

    @property
    def history(self) -> pa.Table:
        """The histories of the search as one, with the ``depth`` of each row; steps and seconds go on."""
        tables, steps, seconds = [], 0, 0.0
        for run in self.search:
            rows = run.result.history
            for name, before in (("step", steps), ("seconds", seconds)):
                if name in rows.column_names:
                    place = rows.column_names.index(name)
                    rows = rows.set_column(
                        place, name, pa.array([n + before for n in rows[name].to_pylist()])
                    )
            tables.append(rows.add_column(0, "depth", pa.array([run.phase.depth] * len(rows), pa.int64())))
            steps, seconds = steps + run.result.steps, seconds + run.result.seconds
        return pa.concat_tables(tables, promote_options="default")

    @property
    def merit(self) -> tuple[float, int]:
        """What orders models, the best first: validation RMSE, then depth, the deepest first."""
        rmse = self.validation_rmse
        return (float("inf") if rmse is None else rmse, -self.depth)

    @property
    def left_start(self) -> bool:
        """Whether the factors contribute to the predictions; see `dmf_fast.training.FitResult`."""
        return bool(self.chosen.runs) and self.result.left_start

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C has ended the job before its time."""
        return any(run.result.stopped_because == "interrupted" for run in (*self.search, *self.refit))

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return self.result.stopped_because == "diverged"


def complete_matrix(
    observed: Observations,
    options: CompletionOptions,
    *,
    folds: Sequence[Parts] | None = None,
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
        folds: parts of ``observed`` to search on and to choose by, instead of those of `validation_folds`.
        validation: entries that choose instead, which are no part of ``observed``; there is no refit then.
        test: measured, and chooses nothing.
        truth: the whole matrix, ``(m, n)``, to measure against.
        callbacks: as for `dmf_fast.training.fit`; all runs call them. Steps of the search are counted through
            all of its phases, and again in the refit.
        checkpoint: folder for the states of all runs.
        resume: resume from them.

    Raises:
        ValueError, TypeError, OSError: as `dmf_fast.training.fit` raises.

    Example:
        >>> from dmf_fast.experiments import low_rank_problem
        >>> observed = low_rank_problem(9, 8, 1, 40, seed=0).train
        >>> options = CompletionOptions().changed({"steps": 4, "evaluate_every": 2})
        >>> completed = complete_matrix(observed, options)
        >>> [candidate.name for candidate in completed.candidates][:2], completed.interrupted
        (['biases', 'depth 2'], False)

    """
    _check(observed, options)
    if validation is not None:
        folds = [(observed, validation)]
    elif folds is None:
        folds = validation_folds(observed, options)
    job = _Job.of(observed, options, test, truth, tuple(callbacks), checkpoint, resume)
    parts = job.prepared(folds)
    fit = job.fit_options
    if parts[0].validation is None:
        fit = replace(fit, patience=None)
    search = Search(parts, options, fit, job.run)
    search.search()
    ended = any(run.result.stopped_because in ("interrupted", "diverged") for run in search.runs[-1:])
    if not options.refit or folds[0][0] is observed or ended:
        return job.completed(search, parts[0], ())
    return job.refitted(search, folds)


@dataclass
class _Job:
    """What the runs of a job share.

    In scaled coordinates values of any size are trained in a unit of their own, `value_unit`. Callbacks see
    the errors in it; what is returned is in the values themselves.
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
    steps_before: int = 0  # of the phases of the search, or of the refit, that are over

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
    ) -> _Job:
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
        """How the runs train, in the unit of the job."""
        fit = options_in_unit(self.options.fit, self.unit)
        return fit if fit.seed is not None else replace(fit, seed=self.options.seed)

    def prepared(
        self, folds: Sequence[Parts], biases: Sequence[Biases | None] | None = None
    ) -> list[Prepared]:
        """Return what the phases need to know of every fold."""
        moved = [
            (self._moved(train), None if validation is None else self._moved(validation))
            for train, validation in folds
        ]
        if self.options.coordinates == "plain":
            biases = [None] * len(moved)
        biases = fitted_biases(moved, self.options) if biases is None else biases
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
        changes = self.options.schedule != "constant" or self.options.warmup
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
            checkpoint=None if self.checkpoint is None else self.checkpoint / name,
            resume=self.resume,
        )
        self.steps_before += result.steps
        return PhaseRun(starts[0].phase, result, _loss_ratio(result))

    def refitted(self, search: Search, folds: Sequence[Parts]) -> CompletedMatrix:
        """Go through the phases of the chosen candidate again, on all entries."""
        observed = self._moved(self.observed)
        biases: list[Biases | None] = [None]
        if search.parts[0].coordinates is not None and self.options.bias:
            chosen = search.parts[0].coordinates.biases
            assert chosen is not None
            biases = [Biases.fit(observed, chosen.shrinkage, start=chosen)]
        (whole,) = self.prepared([(self.observed, None)], biases)
        self.steps_before = 0
        start, runs = None, []
        for before in search.chosen.runs:
            start = begin(before.phase, whole, self.options, start)
            decays = before.phase.depth > 2 and self.options.weight_decay > 0
            options = _refit_options(self.fit_options, before, start, whole, decays=decays)
            stops = [_loss_has_turned] if before.phase.depth > 2 and before.phase.start == "spectral" else []
            runs.append(self.run(f"refit-{before.phase.name}", [start], [whole], options, *stops))
            if runs[-1].result.stopped_because in ("interrupted", "diverged"):
                break
        return self.completed(search, whole, tuple(runs), start)

    def completed(
        self, search: Search, trained_on: Prepared, refit: tuple[PhaseRun, ...], last: Start | None = None
    ) -> CompletedMatrix:
        """Return the chosen model, without scales, and all errors in the values themselves."""
        chosen = search.chosen
        if not refit and chosen.starts is not None:
            last = chosen.starts[0]
        if last is None:
            assert trained_on.coordinates is not None
            trained: DeepMatrixFactorization = trained_on.coordinates.without_factors()
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
            tuple(self._candidate(one) for one in search.candidates),
            self._candidate(chosen),
            tuple(self._run(run) for run in search.runs),
            tuple(self._run(run) for run in refit),
            None if trained_on.coordinates is None else self._biases(trained_on.coordinates.biases),
            train_loss=train_loss,
            test_rmse=measured("test_rmse", row["test_rmse"], self.unit),
            reconstruction_mse=measured("reconstruction_mse", row["reconstruction_mse"], self.unit),
        )

    def _moved(self, entries: Observations) -> Observations:
        return in_unit(entries, self.unit).to(self.device)

    def _candidate(self, candidate: Candidate) -> Candidate:
        """Return it in the values themselves, without its models, which a job does not keep."""
        rmse = measured("validation_rmse", candidate.validation_rmse, self.unit)
        runs = tuple(self._run(run) for run in candidate.runs)
        return replace(candidate, validation_rmse=rmse, runs=runs, starts=None)

    def _run(self, run: PhaseRun) -> PhaseRun:
        history = measured_history(run.result.history, self.unit)
        return replace(run, result=replace(run.result, history=history))

    def _biases(self, biases: Biases | None) -> Biases | None:
        if biases is None or self.unit == 1:
            return biases
        rows, columns = biases.row_biases * self.unit, biases.column_biases * self.unit
        return Biases(biases.mean * self.unit, rows, columns, biases.shrinkage)


@dataclass(frozen=True)
class _State:
    """A model that is measured as a run is."""

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
    """Call back with the step among those of all phases."""
    return callback(replace(progress, step=progress.step + steps_before))


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


def _loss_has_turned(progress: Progress) -> bool:
    """Say whether the train loss falls again after it has risen.

    From a deep spectral start it falls while directions grow, rises while the decay drops those of noise,
    and then falls for good, as the rest is fitted too closely. How many steps that takes depends on the data.
    """
    losses = [row["train_loss"] for row in progress.rows if row["train_loss"] is not None]
    lowest = list(accumulate(losses, min))
    has_risen = any(loss > _RISE * low for loss, low in zip(losses, lowest, strict=True))
    return has_risen and losses[-1] < losses[-2]


def _loss_ratio(result: FitResult) -> float:
    """Return the train loss of the state that counts compared with that of the first row."""
    rows: list[Row] = result.history.select(["step", "train_loss"]).to_pylist()
    first, last = rows[0]["train_loss"], rows[-1]["train_loss"]
    if result.best_step is not None:
        last = next(row["train_loss"] for row in rows if row["step"] == result.best_step)
    return last / first if first and last is not None else 1.0


def _refit_options(
    options: FitOptions, before: PhaseRun, start: Start, whole: Prepared, *, decays: bool
) -> FitOptions:
    """Return how long to train on all entries: as closely as the best step of the search fitted its own.

    The loss tells how far a run has come better than the number of steps, whose lengths depend on the data.
    The loss of a batch would not, nor that of deep factors with a decay (``decays``), which rises again.
    """
    options = replace(options, train_loss_threshold=None, patience=None)
    if options.batches > 1 or decays:
        return replace(options, steps=before.steps)
    loss = mean_squared_error(start.model, whole.train)
    return replace(
        options, steps=before.steps + before.steps // 4, train_loss_threshold=before.loss_ratio * loss
    )


def _check(observed: Observations, options: CompletionOptions) -> None:
    options.check_depth()
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
