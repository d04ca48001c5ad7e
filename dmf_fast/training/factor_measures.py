"""The rows of the history of a run on a list of factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dmf_fast.chain import balancedness, chain_product, dims_of, singular_values
from dmf_fast.observations import Observations
from dmf_fast.ops.functional import completion_loss
from dmf_fast.spectrum import effective_rank, nuclear_norm, schatten_norm
from dmf_fast.training.history import COMPARED, Comparison, Row, singular_value_names
from dmf_fast.training.recording import Recording

_NORMS = ("gradient_norm", "parameter_norm")
_SPECTRUM = ("effective_rank", "nuclear_norm", "schatten_norm")


@dataclass(frozen=True)
class FactorMeasures(Comparison):
    """What a row of the history measures of factors ``[W_1, …, W_N]``.

    All of it is computed in float64, except that the errors on ``validation`` and ``test`` are in the dtype
    of these observations (summed in float64): give them in float64 for all digits.

    Attributes:
        validation: gives ``validation_rmse``.
        test: gives ``test_rmse``.
        truth: the whole matrix, ``(m, n)``, gives ``reconstruction_mse``.
        recording: says what else a row holds.

    Example:
        >>> measures = FactorMeasures(recording=Recording(singular_values=1))
        >>> measures.row([torch.eye(2), 3 * torch.eye(2)], 0, 0.0, 5.0, 1.0)["singular_value_1"]
        3.0

    """

    recording: Recording = Recording()  # noqa: RUF009 (frozen)

    def row(
        self,
        factors: Sequence[Tensor],
        step: int,
        seconds: float,
        train_loss: float,
        gradient_norm: float | None,
    ) -> Row:
        """Return the row for factors after ``step`` updates, with the mean ``train_loss`` that they have.

        Where the train loss is not finite nothing else is measured. Raises what
        `dmf_fast.completion_loss` raises for ``validation`` and ``test``.
        """
        return {"step": step, "seconds": seconds} | self.columns(factors, train_loss, gradient_norm)

    @torch.no_grad()
    def columns(self, factors: Sequence[Tensor], train_loss: float, gradient_norm: float | None) -> Row:
        """Return a row from ``train_loss`` on."""
        row: Row = {"train_loss": train_loss} | dict.fromkeys(self.names(factors))
        if math.isfinite(train_loss):
            wide = [factor.double() for factor in factors]
            # With a truth the product is formed in any case, and is all the chain that the losses need.
            chain = wide if self.truth is None else [chain_product(wide)]
            row |= self.errors(lambda on: _loss(chain, on), lambda: chain[0])
            row |= self._norms(wide, gradient_norm) | self._spectrum(wide)
            if self.recording.balancedness:
                row["balancedness"] = balancedness(wide).item()
        return row

    def names(self, factors: Sequence[Tensor]) -> list[str]:
        """Return the columns after ``train_loss``, in their order."""
        names = list(COMPARED)
        if self.recording.norms:
            names += _NORMS
        if self.recording.spectrum:
            names += _SPECTRUM
        if self.recording.balancedness:
            names += ["balancedness"]
        return names + singular_value_names(self._count(dims_of(factors)))

    def _norms(self, wide: list[Tensor], gradient_norm: float | None) -> Row:
        if not self.recording.norms:
            return {}
        norms = [torch.linalg.vector_norm(factor).item() for factor in wide]
        return dict(zip(_NORMS, (gradient_norm, math.hypot(*norms)), strict=True))

    def _spectrum(self, wide: list[Tensor]) -> Row:
        """Return what the singular values say; they are computed once, and only where they are needed."""
        count = self._count(dims_of(wide))
        if not (count or self.recording.spectrum):
            return {}
        try:
            values = singular_values(wide)
        except LinAlgError:  # the product is not finite where nothing is observed
            return {}
        row: Row = dict(zip(singular_value_names(count), values[:count].tolist(), strict=True))
        if self.recording.spectrum:
            measures = (effective_rank(values), nuclear_norm(values), schatten_norm(values, 2 / len(wide)))
            row |= zip(_SPECTRUM, torch.stack(measures).tolist(), strict=True)
        return row

    def _count(self, dims: tuple[int, ...]) -> int:
        return self.recording.singular_value_count((dims[-1], dims[0]))


def _loss(factors: Sequence[Tensor], observations: Observations) -> Tensor:
    return completion_loss([factor.to(observations.dtype) for factor in factors], observations)
