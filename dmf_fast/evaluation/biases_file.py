"""Biases in a file, so that a saved model can be compared with them without reading the ratings."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import torch

from dmf_fast.evaluation.baselines import Biases, Shrinkage
from dmf_fast.files.reading import Finite, record_of
from dmf_fast.files.tensors import load_tensors, save_tensors

BIASES, BIASES_KIND = "biases.safetensors", "dmf_fast biases"
"""The name of the file in a folder, and its kind."""
_NAMES = ("row_biases", "column_biases")


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    """The facts in the file, in addition to its tensors."""

    mean: Finite
    shrinkage: Shrinkage


def save_biases(biases: Biases, folder: Path) -> None:
    """Write the biases into a folder that is about to be published.

    >>> import tempfile
    >>> from dmf_fast.observations import Observations
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_biases(Biases.fit(Observations([0, 1], [0, 1], [2.0, 2.0])), Path(folder))
    ...     read_biases(Path(folder)).mean
    2.0
    """
    tensors = {name: torch.from_numpy(getattr(biases, name)) for name in _NAMES}
    save_tensors(tensors, folder / BIASES, BIASES_KIND, biases_facts(biases))


def biases_facts(biases: Biases) -> str:
    """Return the facts of the file as JSON."""
    return json.dumps(msgspec.to_builtins(_Facts(biases.mean, biases.shrinkage)))


def read_biases(folder: Path) -> Biases:
    """Return what `save_biases` wrote; raises errors that `reading` converts."""
    tensors, text = load_tensors(folder / BIASES, BIASES_KIND)
    facts = record_of(text, _Facts)
    arrays = {name: tensors[name].double().numpy() for name in _NAMES}
    return Biases(facts.mean, shrinkage=facts.shrinkage, **arrays)
