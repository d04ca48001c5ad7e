"""The biases that every model has to beat, as they are kept next to it."""

from __future__ import annotations

from dmf_fast.data import DataError
from dmf_fast.evaluation import Biases
from dmf_fast.evaluation.biases_file import BIASES, read_biases, save_biases
from dmf_fast.files.reading import reading
from dmf_fast.serving.trained_folder import TrainedFolder

__all__ = ["load_biases", "save_biases"]


def load_biases(trained: TrainedFolder) -> Biases:
    """Return the biases of a trained folder; a `DataError` says why there are none."""
    advice = "give the ratings that were trained on: --ratings FILE"
    with reading(trained.path / BIASES, "what holds the biases to compare with", advice, DataError):
        biases = read_biases(trained.path)
        if (len(biases.row_biases), len(biases.column_biases)) != trained.predictor.model.shape:
            raise ValueError("it is of another shape than the model")
        return biases
