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
from dmf_fast.sharding import WHOLE, RowSharding


def measure(
    predictor: Predictor,
    two_factors: TwoFactors,
    seen: SeenColumns,
    biases: Biases,
    test: HeldOut,
    *,
    top_k: int | None = None,
    relevant_from: float | None = None,
    sharding: RowSharding = WHOLE,
) -> Evaluation:
    """Return how good a model is on ``test``, compared with the mean and ``biases`` of its training ratings.

    Where processes share the rows, all of it is of the rows of this process, see
    `dmf_fast.distributed.evaluation.local_predictor`, and the result is of all.

    Args:
        predictor: the model.
        two_factors: the same, for recommendations.
        seen: what it was trained on, without the values.
        biases: fitted to what it was trained on.
        test: -1 for ids that are unknown.
        top_k: how many recommendations are measured; None for none.
        relevant_from: the least value of a relevant rating.
        sharding: how processes share the rows.

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
        predicted,
        seen,
        test,
        _baselines(biases),
        recommend=recommended if top_k else None,
        options=options,
        sharding=sharding,
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

    def rmse(baselines: Sequence[Baseline]) -> float | None:
        errors = [errors_of(own, part) for own, (_, part) in zip(baselines, parts, strict=True)]
        return sum(errors, start=RatingErrors()).of_all(trained_on.sharding).rmse

    mean = rmse([GlobalMean.fit(train) for train, _ in parts])
    if completed.biases is not None:
        own = next(one for one in completed.candidates if one.name == "biases")
        return completed.biases, {"mean": mean, "biases": own.validation_rmse}
    chosen = chosen_biases(parts)
    biases = Biases.fit(trained_on, chosen[0].shrinkage, start=chosen[0])
    return biases, {"mean": mean, "biases": rmse(chosen)}


def _baselines(biases: Biases) -> dict[str, Baseline]:
    return {"mean": GlobalMean(biases.mean), "biases": biases}
