"""Errors and rankings of a model on test ratings, beside the baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dmf_fast.evaluation import (
    Biases,
    Evaluation,
    EvaluationOptions,
    HeldOut,
    RatingErrors,
    chosen_biases,
    evaluate,
)
from dmf_fast.evaluation.finite import Integers
from dmf_fast.observations import Observations
from dmf_fast.serving import Predictor, SeenColumns, TwoFactors, recommend


def measure(
    predictor: Predictor,
    two_factors: TwoFactors,
    seen: SeenColumns,
    biases: Biases,
    test: HeldOut,
    *,
    top_k: int | None = None,
    relevant_from: float | None = None,
) -> Evaluation:
    """Return how good a model is on ``test``, beside the mean and the ``biases`` of its training ratings.

    Args:
        predictor: the model.
        two_factors: the same, for recommendations.
        seen: what it was trained on, without the values.
        biases: fitted to what it was trained on.
        test: -1 for ids that are unknown.
        top_k: how many recommendations are measured; None for none.
        relevant_from: the least value of a relevant rating.

    """
    options = EvaluationOptions(
        clip=(predictor.lowest, predictor.highest) if predictor.clip else None,
        cutoff=top_k or 10,
        relevant_from=relevant_from,
    )
    # Values are not needed: which ids are known decides, and the mean, which all of them are set to.
    train = _pattern(seen, biases.mean)

    def predicted(rows: Integers, columns: Integers) -> Any:
        return predictor.predict(rows, columns).values

    def recommended(rows: Integers, count: int) -> Any:
        return recommend(two_factors, rows, count, seen=seen).columns.numpy()

    found = evaluate(predicted, train, test, recommend=recommended if top_k else None, options=options)
    baseline = evaluate(biases.predict, train, test, options=options).model
    baselines = {"mean": found.baselines["mean"], "biases": baseline}
    return replace(found, baselines=baselines, shrinkage=biases.shrinkage)


def fitted_biases(
    train: Observations, validation: Observations | None, trained_on: Observations
) -> tuple[Biases, dict[str, float | None]]:
    """Return the biases of ``trained_on``, and the validation RMSE of both baselines of ``train``.

    As the model's best step, their shrinkage is chosen by the validation entries, where there are any.
    """
    if validation is None:
        return Biases.fit(trained_on), {"mean": None, "biases": None}
    held_out = HeldOut.of(validation)
    chosen = chosen_biases(train, held_out)

    def rmse(predictions: Any) -> float | None:
        return RatingErrors.of(predictions, held_out.values, held_out.weights).rmse

    found = {
        "mean": rmse(np.full(len(held_out), chosen.mean)),
        "biases": rmse(chosen.predict(held_out.rows, held_out.columns)),
    }
    return (chosen if trained_on is train else Biases.fit(trained_on, chosen.shrinkage)), found


def _pattern(seen: SeenColumns, value: float) -> Observations:
    rows = torch.repeat_interleave(torch.arange(seen.shape[0]), seen.offsets.diff())
    values = torch.full((len(rows),), value, dtype=torch.float64)
    return Observations(rows, seen.columns, values, seen.shape)
