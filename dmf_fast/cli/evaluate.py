"""``dmf-fast evaluate``: measures a trained model on unseen ratings, compared with baselines."""

from __future__ import annotations

from pathlib import Path

import click

from dmf_fast.cli.baseline import load_biases
from dmf_fast.cli.measuring import measure
from dmf_fast.cli.model_options import EvaluateOptions
from dmf_fast.cli.problem import echo_bad_rows, held_out, no_known_pair
from dmf_fast.cli.targets import check_standard_input
from dmf_fast.data import Ratings, read_ratings
from dmf_fast.evaluation import Biases
from dmf_fast.evaluation.table import evaluation_tables
from dmf_fast.files.text import json_text
from dmf_fast.observations import Observations
from dmf_fast.serving import SeenColumns
from dmf_fast.serving.trained_folder import TrainedFolder


def evaluate(options: EvaluateOptions) -> None:
    """Measure a trained model on test ratings and print the result."""
    check_standard_input({"TEST": options.test, "--ratings": options.ratings})
    trained = TrainedFolder.open(options.folder, options.depth)
    observed = None if options.ratings is None else _training_ratings(options, options.ratings, trained)
    evaluation = measure(
        trained.predictor,
        trained.two_factors,
        trained.seen if observed is None or len(trained.seen.columns) else SeenColumns.of(observed),
        load_biases(trained) if observed is None else Biases.fit(observed),
        held_out(_read(options, options.test, trained)),
        top_k=options.top_k,
        relevant_from=options.relevant_from,
    )
    if options.as_json:
        click.echo(json_text(evaluation.as_dict()))
    else:
        from rich.console import Console

        Console().print(evaluation_tables(evaluation, "this model"))


def _read(options: EvaluateOptions, path: Path, trained: TrainedFolder) -> Ratings:
    """Return the ratings of a file, indexed as the model is."""
    text_ids = (trained.row_ids.holds_text, trained.column_ids.holds_text)
    ratings = read_ratings(path, options.read_options(text_ids=text_ids))
    echo_bad_rows(path, ratings.bad_rows)
    return ratings.mapped_to(trained.row_ids, trained.column_ids)


def _training_ratings(options: EvaluateOptions, path: Path, trained: TrainedFolder) -> Observations:
    ratings = _read(options, path, trained)
    if not ratings.known.any():
        raise no_known_pair(path, options.folder)
    return ratings.select(ratings.known).observations(duplicates="mean")
