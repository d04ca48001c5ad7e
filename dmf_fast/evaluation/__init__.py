"""Evaluation of models on held-out ratings, compared with baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.evaluation.baselines import (
        Baseline,
        Biases,
        GlobalMean,
        Shrinkage,
        chosen_biases,
        errors_of,
        usual_baselines,
    )
    from dmf_fast.evaluation.by_count import CountBin, errors_by_count
    from dmf_fast.evaluation.calibration import CalibrationBin, calibration
    from dmf_fast.evaluation.errors import RatingErrors
    from dmf_fast.evaluation.evaluate import Predict, Recommend, evaluate
    from dmf_fast.evaluation.held_out import HeldOut
    from dmf_fast.evaluation.popularity import MostPopular
    from dmf_fast.evaluation.ranking import RankingMetrics, Relevant
    from dmf_fast.evaluation.results import GROUPS, Evaluation, EvaluationOptions, RatingScores
    from dmf_fast.evaluation.splits import Split, kfold, leave_last_out, time_split
    from dmf_fast.evaluation.table import evaluation_tables

__all__ = [
    "GROUPS",
    "Baseline",
    "Biases",
    "CalibrationBin",
    "CountBin",
    "Evaluation",
    "EvaluationOptions",
    "GlobalMean",
    "HeldOut",
    "MostPopular",
    "Predict",
    "RankingMetrics",
    "RatingErrors",
    "RatingScores",
    "Recommend",
    "Relevant",
    "Shrinkage",
    "Split",
    "calibration",
    "chosen_biases",
    "errors_by_count",
    "errors_of",
    "evaluate",
    "evaluation_tables",
    "kfold",
    "leave_last_out",
    "time_split",
    "usual_baselines",
]

import_lazily(__name__, evaluation_tables="rich")
