"""Errors and rankings of a model on test ratings, compared with the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dmf_fast.completion import CompletedMatrix
from dmf_fast.completion.folds import Parts
from dmf_fast.evaluation import (
    Baseline,
    Biases,
    Evaluation,
    EvaluationOptions,
    GlobalMean,
    HeldOut,
    RatingErrors,
    chosen_biases,
    errors_of,
    evaluate,
)
from dmf_fast.evaluation.numbers import Integers
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
    """Return how good a model is on ``test``, compared with the mean and ``biases`` of its training ratings.

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

    def predicted(rows: Integers, columns: Integers) -> Any:
        return predictor.predict(rows, columns).values

    def recommended(rows: Integers, count: int) -> Any:
        return recommend(two_factors, rows, count, seen=seen).columns.numpy()

    return evaluate(
        predicted, seen, test, _baselines(biases), recommend=recommended if top_k else None, options=options
    )


def fitted_biases(
    folds: Sequence[Parts], trained_on: Observations, completed: CompletedMatrix
) -> tuple[Biases, dict[str, float | None]]:
    """Return the biases of ``trained_on``, and the validation RMSE of both baselines over all folds.

    A model that begins with the biases brings them. Else their shrinkage is chosen by the validation entries,
    where there are any, as the model's best step is.
    """
    parts = [(train, HeldOut.of(validation)) for train, validation in folds if validation is not None]
    if not parts:
        return completed.biases or Biases.fit(trained_on), {"mean": None, "biases": None}
    mean = sum((errors_of(GlobalMean.fit(train), part) for train, part in parts), start=RatingErrors()).rmse
    if completed.biases is not None:
        own = next(one for one in completed.candidates if one.name == "biases")
        return completed.biases, {"mean": mean, "biases": own.validation_rmse}
    chosen = chosen_biases(parts)
    errors = [errors_of(biases, part) for biases, (_, part) in zip(chosen, parts, strict=True)]
    biases = Biases.fit(trained_on, chosen[0].shrinkage, start=chosen[0])
    return biases, {"mean": mean, "biases": sum(errors, start=RatingErrors()).rmse}


def _baselines(biases: Biases) -> dict[str, Baseline]:
    return {"mean": GlobalMean(biases.mean), "biases": biases}
