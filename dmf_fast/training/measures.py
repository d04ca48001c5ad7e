"""What a row of the history measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dmf_fast.chain import balancedness, chain_product, singular_values
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.row_qr import householder_qr
from dmf_fast.optim.norms import norm, norms
from dmf_fast.sharding import RowSharding, local_part, whole_tensor
from dmf_fast.spectrum import effective_rank, nuclear_norm, schatten_norm
from dmf_fast.training.engines.protocol import Measured
from dmf_fast.training.history import Row, singular_value_names
from dmf_fast.training.recording import Recording

_ERRORS = ("validation_rmse", "test_rmse", "reconstruction_mse")
_NORMS = ("gradient_norm", "parameter_norm")
_SPECTRUM = ("effective_rank", "nuclear_norm", "schatten_norm")


@dataclass(frozen=True)
class Measures:
    """What a row holds besides step, seconds and train loss.

    Spectra, norms and the error against ``truth`` are computed in float64; the errors on ``validation`` and
    ``test`` in their own dtype, summed in float64.

    Attributes:
        validation: gives ``validation_rmse``.
        test: gives ``test_rmse``.
        truth: the whole matrix, ``(m, n)``, gives ``reconstruction_mse``.
        recording: what else a row holds, and when rows are recorded.

    """

    validation: Observations | None = None
    test: Observations | None = None
    truth: Tensor | None = None
    recording: Recording = Recording()  # noqa: RUF009 (frozen)

    def row(self, state: Measured, step: int, seconds: float) -> Row:
        """Return the row of the history for a state after ``step`` updates.

        If the train loss is not finite, nothing else is measured.
        """
        return {"step": step, "seconds": seconds} | self.columns(state)

    @torch.no_grad()
    def columns(self, state: Measured) -> Row:
        """Return the columns of a row from ``train_loss`` on."""
        train_loss, recording = state.loss, self.recording
        shape = self._shape(state)
        row: Row = {"train_loss": train_loss} | dict.fromkeys(self.names(shape))
        if not math.isfinite(train_loss):
            return row
        row["validation_rmse"] = _rmse(state, self.validation)
        row["test_rmse"] = _rmse(state, self.test)
        if recording.norms:
            with torch.enable_grad():
                row["gradient_norm"] = state.gradient_norm
        if self.needs_model:
            row |= self._of_model(state.model())
        return row

    @property
    def needs_model(self) -> bool:
        """Whether a row measures the parameters themselves."""
        recording = self.recording
        measured = recording.norms or recording.spectrum or recording.balancedness
        return measured or recording.singular_values != 0 or self.truth is not None

    def names(self, shape: tuple[int, int]) -> list[str]:
        """Return the names of the columns after ``train_loss``, in order."""
        names = list(_ERRORS)
        if self.recording.norms:
            names += _NORMS
        if self.recording.spectrum:
            names += _SPECTRUM
        if self.recording.balancedness:
            names += ["balancedness"]
        return names + singular_value_names(self.recording.singular_value_count(shape))

    def check_shapes(self, shape: tuple[int, int]) -> None:
        """Raise a `ValueError` that names what cannot be compared with an ``m × n`` matrix."""
        for name in ("validation", "test", "truth"):
            other = getattr(self, name)
            if other is not None and tuple(other.shape) != shape:
                raise ValueError(
                    f"`{name}` must have the shape of the product of the factors, {shape}, got "
                    f"{tuple(other.shape)}"
                )

    def _shape(self, state: Measured) -> tuple[int, int]:
        """Return ``(m, n)``, without asking for the model if no column depends on it."""
        return state.model().shape if self.recording.singular_values != 0 else (1, 1)

    def _of_model(self, model: DeepMatrixFactorization) -> Row:
        row: Row = {}
        chain, row_bias, column_bias = model.chain_and_biases()
        wide = [*(whole_tensor(factor).double() for factor in chain[:-1]), local_part(chain[-1]).double()]
        sharding = RowSharding(getattr(model.factors[-1], "device_mesh", None))
        if not sharding.is_whole and (self.recording.spectrum or self.recording.singular_values != 0):
            wide[-1] = householder_qr(wide[-1], sharding)[1]  # R has the same singular values
        if self.truth is not None:
            product = chain_product(wide)
            predictions = product + model.mean.double()
            if row_bias is not None and column_bias is not None:
                predictions += row_bias.double()[:, None] + column_bias.double()
            difference = predictions - self.truth.to(predictions.device)
            row["reconstruction_mse"] = difference.square().mean(dtype=torch.float64).item()
            if min(model.dims) == min(model.shape):  # only a narrower chain itself gives exact zeros
                wide = [product]
        if self.recording.norms:
            row["parameter_norm"] = norm(norms([p.detach().double() for p in model.parameters()]))
        row |= self._spectrum(wide, model)
        if self.recording.balancedness:
            *others, last = model.factors
            factors = [*(whole_tensor(factor).double() for factor in others), local_part(last).double()]
            if not sharding.is_whole:
                factors[-1] = householder_qr(factors[-1], sharding)[1]
            row["balancedness"] = balancedness(factors).item()
        return row

    def _spectrum(self, wide: Sequence[Tensor], model: DeepMatrixFactorization) -> Row:
        """Return the columns of the singular values, which are computed once and only if needed."""
        count, depth = self.recording.singular_value_count(model.shape), len(model.factors)
        if not (count or self.recording.spectrum):
            return {}
        try:
            values = singular_values(wide)
        except LinAlgError:  # the product is not finite at an unobserved entry
            return {}
        row: Row = dict(zip(singular_value_names(count), values[:count].tolist(), strict=True))
        if self.recording.spectrum:
            measures = (effective_rank(values), nuclear_norm(values), schatten_norm(values, 2 / depth))
            row |= zip(_SPECTRUM, torch.stack(measures).tolist(), strict=True)
        return row


def _rmse(state: Measured, observations: Observations | None) -> float | None:
    """Return the root mean squared residual; None if there are no entries of positive weight."""
    if observations is None or observations.total_weight == 0:
        return None
    return math.sqrt(state.mean_squared_error(observations))
