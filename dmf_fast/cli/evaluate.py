"""``dmf-fast evaluate``: a trained model on ratings that it has not seen, beside the baselines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Argument

from dmf_fast.cli.baseline import load_biases
from dmf_fast.cli.data_settings import TableSettings
from dmf_fast.cli.measuring import measure
from dmf_fast.cli.model_choice import ModelChoice
from dmf_fast.cli.option import option
from dmf_fast.cli.problem import echo_bad_rows, held_out
from dmf_fast.data import DataError, Ratings, read_ratings
from dmf_fast.evaluation import Biases
from dmf_fast.evaluation.table import evaluation_tables
from dmf_fast.experiments.text_files import json_text
from dmf_fast.serving.trained_folder import TrainedFolder


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(TableSettings, ModelChoice):
    """The options of ``evaluate``."""

    test: Annotated[Path, Argument(help="File of test ratings, as RATINGS of dmf-fast complete.")]
    ratings: Annotated[
        Path | None,
        option("File that was trained on, for the baselines. [default: those kept in MODEL]"),
    ] = None
    top_k: Annotated[
        int | None, option("Measure the first so many recommendations, too. [default: none]", min=1)
    ] = None
    relevant_from: Annotated[
        float | None, option("The least value of a relevant test rating. [default: all are relevant]")
    ] = None
    as_json: Annotated[bool, option("Print one JSON object instead of tables.", "--json")] = False


def evaluate(settings: EvaluateSettings) -> None:
    """Measure a trained model on test ratings: RMSE, MAE, calibration and, with --top-k, rankings.

    The mean and the biases of its training ratings stand beside it; pairs with unknown ids are shown apart.
    """
    if settings.top_k is None and settings.relevant_from is not None:
        raise ValueError("--relevant-from needs --top-k: how many recommendations to measure.")
    trained = settings.opened()
    biases = load_biases(settings.folder) if settings.ratings is None else _fitted(settings, trained)
    evaluation = measure(
        trained.predictor,
        trained.two_factors,
        trained.seen,
        biases,
        held_out(_read(settings, settings.test, trained)),
        top_k=settings.top_k,
        relevant_from=settings.relevant_from,
    )
    if settings.as_json:
        typer.echo(json_text(evaluation.as_dict()))
    else:
        Console().print(evaluation_tables(evaluation, "this model"))


def _read(settings: EvaluateSettings, path: Path, trained: TrainedFolder) -> Ratings:
    """Return the ratings of a file by the indices of the model."""
    text_ids = (trained.row_ids.holds_text, trained.column_ids.holds_text)
    ratings = read_ratings(path, settings.read_options(text_ids=text_ids))
    echo_bad_rows(path, ratings.bad_rows)
    return ratings.mapped_to(trained.row_ids, trained.column_ids)


def _fitted(settings: EvaluateSettings, trained: TrainedFolder) -> Biases:
    assert settings.ratings is not None
    ratings = _read(settings, settings.ratings, trained)
    if not ratings.known.any():
        raise DataError(f"{settings.ratings} has no pair of ids that {settings.folder} knows.")
    return Biases.fit(ratings.select(ratings.known).observations(duplicates="mean"))
