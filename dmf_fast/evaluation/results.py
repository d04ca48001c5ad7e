"""Options and results of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa

from dmf_fast.evaluation.by_count import CountBin
from dmf_fast.evaluation.calibration import CalibrationBin
from dmf_fast.evaluation.errors import RatingErrors
from dmf_fast.evaluation.ranking import RankingMetrics
from dmf_fast.html import html_table
from dmf_fast.options import Option, Options

GROUPS = ("both known", "new column", "new row", "both new")
"""Groups of test pairs by which of their ids have training ratings."""


@dataclass(frozen=True)
class EvaluationOptions(Options):
    """How `evaluate` measures."""

    clip: Annotated[
        tuple[float, float] | None,
        Option(
            "Lowest and highest prediction.",
            "Predictions of the model and of the baselines are clipped.",
            none="no clipping",
        ),
    ] = None
    bins: Annotated[
        int, Option("Number of calibration bins, if there are many distinct values or predictions.", least=1)
    ] = 10
    cutoff: Annotated[int, Option("k of the ranking metrics.", least=1)] = 10
    relevant_from: Annotated[
        float | None, Option("Smallest value of a relevant held-out entry.", none="all are relevant")
    ] = None
    block: Annotated[int, Option("Number of pairs to predict at once.", least=1)] = 1 << 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip is not None and not self.clip[0] <= self.clip[1]:
            raise ValueError(f"`clip` must be (lowest, highest), got {self.clip}")


@dataclass(frozen=True)
class RatingScores:
    """Errors and calibration of one model.

    Attributes:
        by_group: the errors of each of `GROUPS`; their sum is ``total``.
        by_value: `calibration` in bins of the true value.
        by_prediction: `calibration` in bins of the prediction.
        by_row_ratings: `errors_by_count` in bins of the number of training ratings of the row.
        by_column_ratings: likewise, of the column.
        without_prediction: number of pairs without a finite prediction, for which that of the first baseline
            is used.

    """

    by_group: dict[str, RatingErrors]
    by_value: tuple[CalibrationBin, ...]
    by_prediction: tuple[CalibrationBin, ...]
    by_row_ratings: tuple[CountBin, ...]
    by_column_ratings: tuple[CountBin, ...]
    without_prediction: int

    @property
    def total(self) -> RatingErrors:
        """The errors of all test pairs."""
        return sum(self.by_group.values(), start=RatingErrors())

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            **self.total.as_dict(),
            "without_prediction": self.without_prediction,
            "by_group": {name: errors.as_dict() for name, errors in self.by_group.items()},
            "calibration_by_value": [part.as_dict() for part in self.by_value],
            "calibration_by_prediction": [part.as_dict() for part in self.by_prediction],
            "errors_by_row_ratings": [part.as_dict() for part in self.by_row_ratings],
            "errors_by_column_ratings": [part.as_dict() for part in self.by_column_ratings],
        }


@dataclass(frozen=True, repr=False)
class Evaluation:
    """A model compared with baselines; `evaluation_tables` prints it, `as_dict` gives JSON values.

    Attributes:
        model: the scores of the model.
        baselines: the scores of the baselines by name.
        ranking: the ranking metrics of the model; None without ``recommend``.
        baseline_ranking: the ranking metrics of the most popular columns for the same rows.

    """

    model: RatingScores
    baselines: dict[str, RatingScores]
    ranking: RankingMetrics | None = None
    baseline_ranking: RankingMetrics | None = None

    def __repr__(self) -> str:
        errors = {name: scores.total.rmse for name, scores in self._scores.items()}
        shown = ", ".join(f"{name} {rmse:.4f}" for name, rmse in errors.items() if rmse is not None)
        return f"Evaluation({self.model.total.count:,} test ratings; RMSE: {shown or '-'})"

    def _repr_html_(self) -> str:
        scores = self._scores.values()
        columns = {
            "": list(self._scores),
            "RMSE": [one.total.rmse for one in scores],
            "MAE": [one.total.mae for one in scores],
        }
        for group, errors in self.model.by_group.items():
            if errors.count:
                columns[f"RMSE, {group}"] = [one.by_group[group].rmse for one in scores]
        return html_table(pa.table(columns), f"{self.model.total.count:,} test ratings")

    @property
    def _scores(self) -> dict[str, RatingScores]:
        return {"model": self.model} | self.baselines

    @property
    def coverage(self) -> dict[str, float | None]:
        """The fraction of test pairs in each of `GROUPS`; None without test pairs."""
        count = self.model.total.count
        return {name: errors.count / count if count else None for name, errors in self.model.by_group.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as numbers, strings, lists and dictionaries, without NaN, for JSON."""
        ranking = None
        if self.ranking is not None and self.baseline_ranking is not None:
            ranking = {"model": self.ranking.as_dict(), "most_popular": self.baseline_ranking.as_dict()}
        return {
            "coverage": self.coverage,
            "model": self.model.as_dict(),
            "baselines": {name: scores.as_dict() for name, scores in self.baselines.items()},
            "ranking": ranking,
        }
