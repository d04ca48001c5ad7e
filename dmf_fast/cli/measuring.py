"""Errors and rankings of a model on test ratings, compared with the baselines."""

from __future__ import annotations

from typing import Any

from dmf_fast.evaluation import (
    Baseline,
    Biases,
    Evaluation,
    EvaluationOptions,
    GlobalMean,
    HeldOut,
    RatingErrors,
    chosen_biases,
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
    train: Observations, validation: Observations | None, trained_on: Observations
) -> tuple[Biases, dict[str, float | None]]:
    """Return the biases of ``trained_on``, and the validation RMSE of both baselines of ``train``.

    As the model's best step, their shrinkage is chosen by the validation entries, where there are any.
    """
    if validation is None:
        return Biases.fit(trained_on), {"mean": None, "biases": None}
    held_out = HeldOut.of(validation)
    chosen = chosen_biases(train, held_out)
    validation_rmses = {
        name: RatingErrors.of(
            baseline.predict(held_out.rows, held_out.columns), held_out.values, held_out.weights
        ).rmse
        for name, baseline in _baselines(chosen).items()
    }
    if trained_on is not train:
        chosen = Biases.fit(trained_on, chosen.shrinkage, start=chosen)
    return chosen, validation_rmses


def _baselines(biases: Biases) -> dict[str, Baseline]:
    return {"mean": GlobalMean(biases.mean), "biases": biases}
