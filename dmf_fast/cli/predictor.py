"""A trained model as it is kept in a file, with what predictions need beside the factors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dmf_fast.cli.settings import DTYPES
from dmf_fast.data import DataError
from dmf_fast.nn import DeepMatrixFactorization

_BLOCK = 1 << 20
_FORMAT = "dmf_fast"


@dataclass(frozen=True)
class Predictor:
    """Predicts at pairs of indices, of which some may be unknown (-1).

    ``training_mean``: the mean of the training values; ``lowest`` and ``highest``: their range, to which
    predictions are clipped where ``clip`` is set.
    """

    model: DeepMatrixFactorization
    training_mean: float
    lowest: float
    highest: float
    clip: bool

    def predict(
        self, rows: np.ndarray, columns: np.ndarray, unknown: str = "mean", *, clip: bool = True
    ) -> np.ndarray:
        """Return float64 predictions, shape (len,), in blocks: never the dense matrix.

        A pair with an unknown id gets the mean of the training values, plus the biases that are known
        where the model was trained on centred values (``unknown="mean"``), or NaN (``"nan"``).
        ``clip=False`` leaves the predictions as they are.
        """
        parts = [
            self._predict_block(rows[start : start + _BLOCK], columns[start : start + _BLOCK], unknown)
            for start in range(0, len(rows), _BLOCK)
        ]
        predictions = np.concatenate(parts) if parts else np.empty(0)
        return self.clipped(predictions) if clip else predictions

    def clipped(self, predictions: np.ndarray) -> np.ndarray:
        """Return the predictions within the range of the training values, where that is asked for."""
        return np.clip(predictions, self.lowest, self.highest) if self.clip else predictions

    @torch.no_grad()
    def _predict_block(self, rows: np.ndarray, columns: np.ndarray, unknown: str) -> np.ndarray:
        known = (rows >= 0) & (columns >= 0)
        predictions = np.full(len(rows), np.nan)
        predictions[known] = self.model.predict(
            torch.from_numpy(rows[known]), torch.from_numpy(columns[known])
        ).numpy()
        if unknown == "mean":
            predictions[~known] = self._mean_with_known_biases(rows[~known], columns[~known])
        return predictions

    def _mean_with_known_biases(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        level = np.full(len(rows), self.training_mean)
        # Without centring the biases hold the mean themselves, which cannot be told apart.
        if self.model.mean.item() != 0.0:
            for bias, indices in ((self.model.row_bias, rows), (self.model.column_bias, columns)):
                if bias is not None:
                    level += np.where(indices >= 0, bias.detach().double().numpy()[indices], 0.0)
        return level

    def save(self, path: Path) -> None:
        """Write the model to a safetensors file: factors, biases and mean, with the rest as metadata."""
        model = self.model
        description = {
            "shape": [model.factors[-1].shape[0], model.factors[0].shape[1]],
            "hidden": [factor.shape[0] for factor in model.factors[:-1]],
            "bias": model.row_bias is not None,
            "dtype": str(model.factors[0].dtype).removeprefix("torch."),
            "training_mean": self.training_mean,
            "lowest": self.lowest,
            "highest": self.highest,
            "clip": self.clip,
        }
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, path, metadata={_FORMAT: json.dumps(description)})

    @classmethod
    def load(cls, path: Path) -> Predictor:
        """Read a model written by `save`; a `DataError` says why that was not possible."""
        try:
            with safe_open(path, framework="pt") as file:
                description = json.loads((file.metadata() or {})[_FORMAT])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            hidden = description["hidden"]
            model = DeepMatrixFactorization(
                tuple(description["shape"]),
                len(hidden) + 1,
                hidden or None,
                bias=description["bias"],
                dtype=DTYPES[description["dtype"]],
            )
            model.load_state_dict(tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{path} is not a model of dmf-fast complete ({error}); name the folder that it wrote."
            ) from error
        measures = {name: description[name] for name in ("training_mean", "lowest", "highest", "clip")}
        return cls(model=model, **measures)
