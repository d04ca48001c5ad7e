"""A fitted estimator as a folder: that of ``dmf-fast complete``, with what else the estimator knows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dmf_fast.checks import real_number
from dmf_fast.data import DataError, ObjectIdMap
from dmf_fast.estimator.fitted import FittedModel
from dmf_fast.files.atomic import atomic_file
from dmf_fast.observations import Observations
from dmf_fast.observations.file import load_observations, save_observations
from dmf_fast.serving import SeenColumns
from dmf_fast.serving.trained_folder import TrainedFolder, model_name, write_trained_folder

_FORMAT, _VERSION = "dmf_fast estimator", 1
_FACTS, _RATINGS = "estimator.json", "ratings.safetensors"


def save_fitted(fitted: FittedModel, facts: dict[str, Any], path: Path) -> None:
    """Write what `load_fitted` reads; ``facts`` are what JSON can hold, or NumPy's scalars.

    Raises what `write_trained_folder` raises, such as a `DataError` for ids that files cannot hold.
    """
    seen = fitted.seen
    if seen is None:
        seen = SeenColumns.of_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), fitted.model.shape)
    for ids in fitted.ids:
        if isinstance(ids, ObjectIdMap):
            ids.save(path)  # refuses, before anything is replaced
    for name in (_FACTS, _RATINGS):
        (path / name).unlink(missing_ok=True)
    write_trained_folder(path, [fitted.predictor], *fitted.ids, seen)
    if fitted.observed is not None:
        save_observations(fitted.observed, path / _RATINGS)
        # safetensors lets nobody else read its files
        shutil.copymode(path / model_name(len(fitted.model.factors)), path / _RATINGS)
    about = {"format": _FORMAT, "version": _VERSION, "noise_variance": fitted.noise_variance}
    with atomic_file(path / _FACTS) as partial:
        partial.write_text(json.dumps(about | facts, indent=2, default=np.generic.item) + "\n")


def load_fitted(path: Path, depth: int | None) -> tuple[FittedModel, dict[str, Any]]:
    """Return what `save_fitted` wrote, and the facts; or what ``dmf-fast complete`` wrote, without facts.

    Raises a `DataError` where the folder is neither.
    """
    trained = TrainedFolder.open(path, depth)
    facts = _facts(path)
    noise_variance = facts.pop("noise_variance", None) or _noise_variance(trained)
    observed = _ratings(trained)
    seen = trained.seen if len(trained.seen.columns) and observed is None else None
    fitted = FittedModel(
        trained.predictor, trained.row_ids, trained.column_ids, noise_variance, observed, seen
    )
    return fitted, facts


def _facts(path: Path) -> dict[str, Any]:
    if not (path / _FACTS).exists():
        return {}
    try:
        facts = json.loads((path / _FACTS).read_text())
        if facts.pop("format") != _FORMAT or facts.pop("version") != _VERSION:
            raise ValueError(f"its format is not {_FORMAT!r} of version {_VERSION}")
        _check(facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path / _FACTS} is damaged ({error}); save the estimator again") from error
    return dict(facts)


def _check(facts: dict[str, Any]) -> None:
    """Raise a `ValueError` where facts are not what `save_fitted` has been given."""
    real_number("noise_variance", facts["noise_variance"], above=0)
    for name, kind in (("parameters", dict), ("trained", dict), ("feature_names", list)):
        if not isinstance(facts[name], kind):
            raise ValueError(f"{name} is {facts[name]!r}")


def _ratings(trained: TrainedFolder) -> Observations | None:
    path = trained.path / _RATINGS
    if not path.exists():
        return None
    try:
        observed = load_observations(path)
        if observed.shape != trained.predictor.model.shape:
            raise ValueError(
                f"its shape is {observed.shape}, that of the model {trained.predictor.model.shape}"
            )
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); save the estimator again") from error
    return observed


def _noise_variance(trained: TrainedFolder) -> float:
    """Return the squared error that ``dmf-fast complete`` has measured, by validation where it could.

    Where nothing was measured, the ratings are taken to spread over four standard deviations.
    """
    predictor = trained.predictor
    try:
        runs = json.loads((trained.path / "metrics.json").read_text())["runs"]
        run = next(run for run in runs if run["depth"] == len(predictor.model.factors))
        rmse = run["validation_rmse"]
        measured = float(run["train_loss"] if rmse is None else rmse**2)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        measured = 0.0
    return measured or ((predictor.highest - predictor.lowest) / 4) ** 2 or 1.0
