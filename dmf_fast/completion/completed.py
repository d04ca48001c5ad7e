"""The result of a complete job."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.search import Candidate, PhaseRun
from dmf_fast.evaluation.baselines import Biases
from dmf_fast.html import html_table
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.training import FitResult, History


@dataclass(frozen=True)
class WidthTrial:
    """A width that was tried in the search for a width; see `dmf_fast.completion.widths`.

    Attributes:
        width: of the hidden spaces.
        tail_share: largest share of the nuclear norm in the smaller half of the singular values, among the
            states inspected; None if the loss hardly fell, so that none was inspected.
        steps: number of updates in the search.
        seconds: training time, including a refit.

    """

    width: int
    tail_share: float | None
    steps: int
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class CompletedMatrix:
    """A trained model, the runs that produced it, and its errors, which are None if they are unknown.

    Attributes:
        options: of the job.
        model: of the matrix itself, without scales, on the device of the observations.
        candidates: the models that validation entries chose from, starting with the biases; a single one
            without validation entries.
        chosen: the candidate that became ``model``. If it is the biases, the factors of ``model`` are zero.
        search: the runs without the validation entries, of all candidates, in order.
        refit: the runs of the chosen candidate on all entries; empty if there was no refit.
        biases: jointly fitted to the training entries of ``model``, in units of the values; None in plain
            coordinates or without biases.
        train_loss: mean squared residual of ``model`` on its training entries, without weight decay.
        test_rmse: of ``model``.
        reconstruction_mse: mean squared error over the whole matrix, if the truth is known.
        widths: the widths that were tried, in order, if the width was searched for; ``model`` has the last.

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
    widths: tuple[WidthTrial, ...] = ()

    def __repr__(self) -> str:
        names = ("validation_rmse", "test_rmse", "train_loss", "reconstruction_mse")
        numbers = {name: getattr(self, name) for name in names}
        known = [f"{name}={number:.4g}" for name, number in numbers.items() if number is not None]
        return f"CompletedMatrix({', '.join([self.chosen.name, f'shape={self.model.shape}', *known])})"

    def _repr_html_(self) -> str:
        columns = {
            "candidate": [one.name for one in self.candidates],
            "validation RMSE": [one.validation_rmse for one in self.candidates],
            "chosen": ["✓" if one is self.chosen else "" for one in self.candidates],
        }
        return html_table(pa.table(columns), repr(self))

    @property
    def validation_rmse(self) -> float | None:
        """Validation RMSE of the chosen candidate at its best step, over all folds."""
        return self.chosen.validation_rmse

    @property
    def depth(self) -> int:
        """Number of factors of ``model``."""
        return len(self.model.factors)

    @property
    def result(self) -> FitResult:
        """The last run: the one that produced ``model``, unless the biases were chosen."""
        runs = self.refit or self.chosen.runs or self.search
        return runs[-1].result

    @property
    def steps(self) -> int:
        """Number of updates in the search, including those at widths that were too small."""
        return sum(one.steps for one in self.widths[:-1]) + sum(run.result.steps for run in self.search)

    @property
    def best_step(self) -> int | None:
        """Number of updates that led to the chosen candidate; None without validation entries."""
        return None if self.validation_rmse is None else sum(run.steps for run in self.chosen.runs)

    @property
    def refit_steps(self) -> int:
        """Number of updates in the refit on all entries."""
        return sum(run.result.steps for run in self.refit)

    @property
    def seconds(self) -> float:
        """Training time in seconds, including time before a resume and at widths that were too small."""
        here = sum(run.result.seconds for run in (*self.search, *self.refit))
        return sum(one.seconds for one in self.widths[:-1]) + here

    @property
    def history(self) -> History:
        """The histories of all runs of the search as one, with the ``depth`` of each row.

        Steps and seconds are counted from the start of the first run.
        """
        tables, steps, seconds = [], 0, 0.0
        for run in self.search:
            rows = run.result.history.table
            for name, before in (("step", steps), ("seconds", seconds)):
                if name in rows.column_names:
                    place = rows.column_names.index(name)
                    rows = rows.set_column(
                        place, name, pa.array([n + before for n in rows[name].to_pylist()])
                    )
            tables.append(rows.add_column(0, "depth", pa.array([run.phase.depth] * len(rows), pa.int64())))
            steps, seconds = steps + run.result.steps, seconds + run.result.seconds
        return History(pa.concat_tables(tables, promote_options="default"))

    @property
    def merit(self) -> tuple[float, int]:
        """Sort key that puts the best model first: by validation RMSE, then by depth, the deepest first."""
        rmse = self.validation_rmse
        return (float("inf") if rmse is None else rmse, -self.depth)

    @property
    def left_start(self) -> bool:
        """Whether the factors contribute to the predictions; see `dmf_fast.training.FitResult`."""
        return bool(self.chosen.runs) and self.result.left_start

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the job early."""
        return any(run.result.stopped_because == "interrupted" for run in (*self.search, *self.refit))

    @property
    def diverged(self) -> bool:
        """Whether a loss in the first run of the search or in the refit was not finite: there is no model."""
        return any(run.result.stopped_because == "diverged" for run in (*self.search[:1], *self.refit))
