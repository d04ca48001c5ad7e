"""A trained model with everything that predictions need, as it is saved to a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast import nn
from dmf_fast.data.errors import DataError
from dmf_fast.files.reading import Finite, reading, record_of
from dmf_fast.files.tensors import load_tensors, save_tensors
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import mean_value, value_range
from dmf_fast.serving.indices import checked_indices

_BLOCK = 1 << 20
MODEL_KIND = "dmf_fast model"
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in nn.DTYPES}
_Size = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions at pairs of indices.

    Attributes:
        values: float64, ``(len,)``.
        known: bool, ``(len,)``; False where an id is unknown and the value is a fallback.

    """

    values: NDArray[np.float64]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Predictor:
    """Predicts at pairs of indices; an index of -1 stands for an unknown id.

    Attributes:
        model: a model of the values themselves; `dmf_fast.completion.rescaled` converts a model of
            standardized values.
        training_mean: the mean of the training values.
        lowest: the smallest training value.
        highest: the largest training value.
        clip: whether predictions are clipped to the range of the training values.

    Example:
        >>> Predictor(DeepMatrixFactorization((4, 3), 2), 3.5, 1.0, 5.0, clip=True).predict([-1], [2])
        Predictions(values=array([3.5]), known=array([False]))

    """

    model: DeepMatrixFactorization
    training_mean: float
    lowest: float
    highest: float
    clip: bool

    @classmethod
    def of(
        cls, model: DeepMatrixFactorization, observed: Observations, *, centered: bool, clip: bool
    ) -> Predictor:
        """Return the predictor of a model that was trained on ``observed``.

        Args:
            model: trained on all or most of the entries.
            observed: the entries, for the range of their values and, unless ``centered``, their mean.
            centered: whether ``model.mean`` is the mean of the training values.
            clip: whether predictions are clipped to the range of the values.

        Example:
            >>> observed = Observations([0, 1], [0, 0], [1.0, 5.0])
            >>> model = DeepMatrixFactorization((2, 1), 2)
            >>> Predictor.of(model, observed, centered=False, clip=True).training_mean
            3.0

        """
        mean = model.mean.item() if centered else mean_value(observed)
        return cls(model, mean, *value_range(observed), clip=clip)

    def predict(self, rows: Any, columns: Any, *, clip: bool = True) -> Predictions:
        """Return the predictions, in blocks: the dense matrix is never formed.

        The prediction for a pair with an unknown id is the mean of the training values, plus the known bias
        if the model was trained on centered values. Such pairs are flagged.

        Args:
            rows: integers from 0 to m-1, or -1 for an unknown id, ``(len,)``.
            columns: integers from 0 to n-1, or -1, ``(len,)``.
            clip: False to return unclipped predictions, regardless of the attribute ``clip``.

        Returns:
            Values and flags, ``(len,)`` each.

        Raises:
            TypeError: the indices are not integers.
            ValueError: they are not one-dimensional, or differ in length.
            IndexError: an index is out of range.

        """
        rows = checked_indices("rows", rows, self.model.shape[0], unknown=True)
        columns = checked_indices("columns", columns, self.model.shape[1], unknown=True)
        if rows.shape != columns.shape:
            raise ValueError(
                f"`rows` and `columns` must have the same length, got {len(rows)} and {len(columns)}"
            )
        known = (rows >= 0) & (columns >= 0)
        values = self._fallback(rows, columns)
        for block in known.nonzero()[:, 0].split(_BLOCK):
            values[block] = self.model.predict(rows[block], columns[block]).double().cpu()
        result = values.numpy()
        return Predictions(self.clipped(result) if clip else result, known.numpy())

    def clipped(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return predictions clipped to the range of the training values if ``clip`` is set, else unchanged.

        Args:
            values: float64, of any shape.

        Returns:
            float64, of the same shape.

        Raises:
            TypeError: ``values`` are not numbers.

        Example:
            >>> predictor = Predictor(DeepMatrixFactorization((4, 3), 2), 3.5, 1.0, 5.0, clip=True)
            >>> predictor.clipped(np.array([0.5, 4.0])).tolist()
            [1.0, 4.0]

        """
        return np.clip(values, self.lowest, self.highest) if self.clip else values

    def _fallback(self, rows: Tensor, columns: Tensor) -> Tensor:
        level = torch.full((len(rows),), self.training_mean, dtype=torch.float64, device="cpu")
        # Without centering, the biases include the mean, which cannot be separated.
        centered = self.model.mean.item() != 0.0 or self.training_mean == 0.0
        for bias, indices in ((self.model.row_bias, rows), (self.model.column_bias, columns)):
            if bias is not None and centered:
                level += torch.where(indices >= 0, bias.detach().double().cpu()[indices], 0.0)
        return level

    def save(self, path: Path) -> None:
        """Write the model to a safetensors file: factors, biases and mean, with the rest as metadata."""
        tensors = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        save_tensors(tensors, path, MODEL_KIND, self.facts(self.model.shape))

    def facts(self, shape: tuple[int, int]) -> str:
        """Return the metadata of the file for a model of ``shape``."""
        model = self.model
        description = {
            "shape": list(shape),
            "hidden": list(model.dims[1:-1]),
            "bias": model.row_bias is not None,
            "dtype": str(model.mean.dtype).removeprefix("torch."),
            "training_mean": self.training_mean,
            "lowest": self.lowest,
            "highest": self.highest,
            "clip": self.clip,
        }
        return json.dumps(description)

    @classmethod
    @torch.inference_mode(False)  # so that the loaded model can be trained
    def load(cls, path: Path, *, checked: bool = False) -> Predictor:
        """Read a model written by `save`; a `DataError` says why it cannot be read.

        ``checked``: whether the file has already been compared with a digest.
        """
        with reading(path, "a model of dmf-fast complete", "name the folder that it wrote", DataError):
            tensors, text = load_tensors(path, MODEL_KIND, checked=checked)
            facts = record_of(text, _Facts)
            _check_parts(facts, tensors)
            model = _model_of({name: tensor.clone() for name, tensor in tensors.items()})
            return cls(model, facts.training_mean, facts.lowest, facts.highest, facts.clip)


def _model_of(tensors: dict[str, Tensor]) -> DeepMatrixFactorization:
    """Return the model of these tensors, which `_check_parts` has checked."""
    factors = [tensors[f"factors.{j}"] for j in range(sum(name.startswith("factors.") for name in tensors))]
    model = DeepMatrixFactorization.of_factors(factors)
    if "row_bias" in tensors:
        model.row_bias = torch.nn.Parameter(tensors["row_bias"])
        model.column_bias = torch.nn.Parameter(tensors["column_bias"])
    model.mean.copy_(tensors["mean"])
    return model


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    """Metadata of the file of a model."""

    shape: tuple[_Size, _Size]
    hidden: list[_Size]
    bias: bool
    dtype: str
    training_mean: Finite
    lowest: Finite
    highest: Finite
    clip: bool


def _check_parts(facts: _Facts, tensors: dict[str, Tensor]) -> None:
    """Raise a `ValueError` if the tensors do not match the metadata."""
    if facts.dtype not in _DTYPES:
        raise ValueError(f"its dtype is {facts.dtype!r}")
    rows, columns = facts.shape
    dims = [columns, *facts.hidden, rows]
    shapes: dict[str, tuple[int, ...]] = {
        f"factors.{j}": (above, below) for j, (below, above) in enumerate(pairwise(dims))
    }
    if facts.bias:
        shapes |= {"row_bias": (rows,), "column_bias": (columns,)}
    shapes["mean"] = ()
    for name in shapes.keys() | tensors.keys():
        found = tensors.get(name)
        expected = (_DTYPES[facts.dtype], shapes.get(name))
        if found is None or (found.dtype, tuple(found.shape)) != expected:
            raise ValueError(f"its tensor {name!r} does not have the shape and dtype of its metadata")
        if not found.isfinite().all():
            raise ValueError(f"its tensor {name!r} holds numbers that are not finite")
