"""A fitted estimator as a folder: that of ``dmf-fast complete``, and the rest of the estimator's state."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from dmf_fast.data import DataError
from dmf_fast.estimator.fitted import FittedModel
from dmf_fast.files.atomic import read_whole
from dmf_fast.files.reading import read_record, reading
from dmf_fast.observations import Observations
from dmf_fast.observations.file import load_observations, save_observations
from dmf_fast.serving import SeenColumns
from dmf_fast.serving.model_card import CARD
from dmf_fast.serving.trained_folder import TrainedFolder, fill_trained_folder, new_trained_folder

_FORMAT, _VERSION = "dmf_fast estimator", 2
ESTIMATOR, _RATINGS, _METRICS = "estimator.json", "ratings.safetensors", "metrics.json"
_ADVICE = "save the estimator again"
_Count = Annotated[int, msgspec.Meta(ge=0)]


def save_fitted(fitted: FittedModel, facts: dict[str, Any], path: Path, card: str | None = None) -> None:
    """Write what `load_fitted` reads; ``facts`` hold JSON values or NumPy scalars.

    The folder is replaced atomically.

    Raises what `write_trained_folder` raises, such as a `DataError` for ids that files cannot hold.
    """
    seen = fitted.seen
    if seen is None:
        seen = SeenColumns.of_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), fitted.model.shape)
    about = {"format": _FORMAT, "version": _VERSION, "noise_variance": fitted.noise_variance}
    with new_trained_folder(path) as folder:
        fill_trained_folder(folder, [fitted.predictor], *fitted.ids, seen)
        if fitted.observed is not None:
            save_observations(fitted.observed, folder / _RATINGS)
        text = json.dumps(about | facts, indent=2, default=np.generic.item) + "\n"
        (folder / ESTIMATOR).write_text(text, encoding="utf-8")
        if card is not None:
            (folder / CARD).write_text(card, encoding="utf-8")


def load_fitted(path: Path, depth: int | None) -> tuple[FittedModel, dict[str, Any]]:
    """Load what `save_fitted` wrote, with its facts, or what ``dmf-fast complete`` wrote, without facts.

    Raises a `DataError` if the folder is neither.
    """
    return read_whole(path, lambda: _loaded(path, depth))


def _loaded(path: Path, depth: int | None) -> tuple[FittedModel, dict[str, Any]]:
    trained = TrainedFolder.open(path, depth)
    facts = _facts(trained)
    observed = kept_ratings(trained)
    seen = trained.seen if len(trained.seen.columns) and observed is None else None
    noise_variance = _noise_variance(trained) if facts is None else facts.noise_variance
    fitted = FittedModel(
        trained.predictor, trained.row_ids, trained.column_ids, noise_variance, observed, seen
    )
    return fitted, {} if facts is None else facts.of_the_estimator()


class _Trained(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Results of `fit`, by the names of the attributes."""

    n_iter_: _Count | msgspec.UnsetType = msgspec.UNSET
    best_step_: _Count | msgspec.UnsetType | None = msgspec.UNSET
    candidates_: dict[str, float | None] | msgspec.UnsetType = msgspec.UNSET
    chosen_: str | msgspec.UnsetType = msgspec.UNSET


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    """The state of an estimator besides its model."""

    format: str
    version: int
    noise_variance: Annotated[float, msgspec.Meta(gt=0, le=sys.float_info.max)]
    parameters: dict[str, Any]
    trained: _Trained
    feature_names: list[str]

    def of_the_estimator(self) -> dict[str, Any]:
        """Return what `save_fitted` was given."""
        trained = msgspec.to_builtins(self.trained)
        return {"parameters": self.parameters, "trained": trained, "feature_names": self.feature_names}


def _facts(trained: TrainedFolder) -> _Facts | None:
    path = trained.checked(ESTIMATOR)
    if path is None:
        return None
    with reading(path, "the state of an estimator", _ADVICE, DataError):
        facts = read_record(path, _Facts)
        if facts.format != _FORMAT or facts.version != _VERSION:
            raise ValueError(f"its format is not {_FORMAT!r} of version {_VERSION}")
    return facts


def kept_ratings(trained: TrainedFolder) -> Observations | None:
    """Return the training ratings that `save_fitted` wrote; None if the folder has none."""
    path = trained.checked(_RATINGS)
    if path is None:
        return None
    with reading(path, "the ratings of an estimator", _ADVICE, DataError):
        observed = load_observations(path)
        if observed.shape != trained.predictor.model.shape:
            raise ValueError(
                f"its shape is {observed.shape}, that of the model {trained.predictor.model.shape}"
            )
    return observed


class _Run(msgspec.Struct):
    """Results of a job for one depth."""

    depth: int
    train_loss: float
    validation_rmse: float | None


class _Metrics(msgspec.Struct):
    runs: list[_Run]


def _noise_variance(trained: TrainedFolder) -> float:
    """Return the mean squared error that ``dmf-fast complete`` measured, on validation ratings if possible.

    If nothing was measured, the range of the ratings is assumed to be four standard deviations.
    """
    predictor, path = trained.predictor, trained.checked(_METRICS)
    measured = 0.0
    if path is not None:
        with reading(path, "the results of dmf-fast complete", "train the model again", DataError):
            runs = read_record(path, _Metrics).runs
        for run in runs:
            if run.depth == len(predictor.model.factors):
                measured = run.train_loss if run.validation_rmse is None else run.validation_rmse**2
    return measured or ((predictor.highest - predictor.lowest) / 4) ** 2 or 1.0
