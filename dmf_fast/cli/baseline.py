"""The biases that every model has to beat, kept next to it, so that the ratings need not be read again."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import torch

from dmf_fast.data import DataError
from dmf_fast.evaluation import Biases, Shrinkage
from dmf_fast.files.reading import Finite, reading, record_of
from dmf_fast.files.tensors import load_tensors, save_tensors
from dmf_fast.serving.trained_folder import TrainedFolder

_FILE, _KIND, _NAMES = "biases.safetensors", "dmf_fast biases", ("row_biases", "column_biases")


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    """What the file says besides its tensors."""

    mean: Finite
    shrinkage: Shrinkage


def save_biases(biases: Biases, folder: Path) -> None:
    """Write the biases into a trained folder."""
    tensors = {name: torch.from_numpy(getattr(biases, name)) for name in _NAMES}
    facts = _Facts(biases.mean, biases.shrinkage)
    save_tensors(tensors, folder / _FILE, _KIND, json.dumps(msgspec.to_builtins(facts)))


def load_biases(trained: TrainedFolder) -> Biases:
    """Return the biases of a trained folder; a `DataError` says why there are none."""
    path = trained.path / _FILE
    advice = "give the ratings that were trained on: --ratings FILE"
    with reading(path, "what holds the biases to compare with", advice, DataError):
        tensors, text = load_tensors(path, _KIND)
        facts = record_of(text, _Facts)
        arrays = {name: tensors[name].double().numpy() for name in _NAMES}
        if tuple(array.shape for array in arrays.values()) != tuple(
            (n,) for n in trained.predictor.model.shape
        ):
            raise ValueError("it is of another shape than the model")
        return Biases(facts.mean, shrinkage=facts.shrinkage, **arrays)
