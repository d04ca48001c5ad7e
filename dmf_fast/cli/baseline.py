"""The biases that every model has to beat, kept next to it, so that the ratings need not be read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dmf_fast.data import DataError
from dmf_fast.evaluation import Biases, Shrinkage
from dmf_fast.files.atomic import atomic_file

_NAME = "biases.safetensors"


def save_biases(biases: Biases, folder: Path) -> None:
    """Write the biases into a trained folder."""
    tensors = {
        "mean": np.array([biases.mean]),
        "row_biases": biases.row_biases,
        "column_biases": biases.column_biases,
        "shrinkage": np.array([biases.shrinkage.rows, biases.shrinkage.columns]),
    }
    with atomic_file(folder / _NAME) as partial:
        save_file(tensors, partial)
        partial.chmod(0o644)  # safetensors lets nobody else read its files


def load_biases(folder: Path) -> Biases:
    """Return the biases of a trained folder; a `DataError` says why there are none."""
    path = folder / _NAME
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in ("row_biases", "column_biases")}
            (mean,), (rows, columns) = file.get_tensor("mean"), file.get_tensor("shrinkage")
        return Biases(float(mean), shrinkage=Shrinkage(float(rows), float(columns)), **arrays)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} does not hold the biases to compare with ({error}); give the ratings that were trained "
            "on: --ratings FILE"
        ) from error
