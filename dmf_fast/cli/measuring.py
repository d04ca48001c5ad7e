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
    """Measure a model on ``test``, compared with the mean and the biases of its training ratings.

    If processes share the rows, each passes its own rows (see
    `dmf_fast.distributed.evaluation.local_predictor`), and the result covers all of them.

    Args:
        predictor: the model.
        two_factors: the same model, for recommendations.
        seen: the places of its training ratings.
        biases: fitted to its training ratings.
        test: the test ratings, with index -1 for unknown ids.
        top_k: how many recommendations to measure; None to measure none.
        relevant_from: the lowest value of a relevant rating.
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

    A model that starts from biases already has them. Otherwise the validation entries, if any, choose the
    shrinkage, just as they choose the best step of the model.
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
