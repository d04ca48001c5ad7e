"""The baseline that every model has to beat: the biases of its training ratings."""

from __future__ import annotations

from dmf_fast.data import DataError
from dmf_fast.estimator.folder import kept_ratings
from dmf_fast.evaluation import Biases
from dmf_fast.evaluation.biases_file import BIASES, read_biases, save_biases
from dmf_fast.files.reading import reading
from dmf_fast.serving.trained_folder import TrainedFolder

__all__ = ["load_biases", "save_biases"]


def load_biases(trained: TrainedFolder) -> Biases:
    """Return the biases of a trained folder, fitted to its ratings if it stores these instead.

    Raises a `DataError` if it stores neither, or they cannot be read.
    """
    advice = "pass the training ratings as --ratings FILE"
    if BIASES not in trained.sums:
        observed = kept_ratings(trained)
        if observed is None:
            raise DataError(f"{trained.path} stores neither ratings nor biases to compare with; {advice}")
        return Biases.fit(observed)
    with reading(trained.path / BIASES, "a file of baseline biases", advice, DataError):
        biases = read_biases(trained.path)
        if (len(biases.row_biases), len(biases.column_biases)) != trained.predictor.model.shape:
            raise ValueError("its shape is not that of the model")
        return biases
