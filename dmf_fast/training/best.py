"""The best state of a run so far, by its validation RMSE."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dmf_fast.training.history import Row


@dataclass(frozen=True)
class Best:
    """The best evaluation so far, and how many have come since.

    >>> best = Best().after({"step": 3, "validation_rmse": 0.5}, dict)
    >>> best.after({"step": 4, "validation_rmse": 0.6}, dict).evaluations_since
    1
    """

    step: int | None = None
    rmse: float | None = None
    model: dict[str, Tensor] | None = None
    evaluations_since: int = 0

    def after(self, row: Row, state_dict: Callable[[], dict[str, Tensor]]) -> Best:
        """Return what is best when ``row`` is taken into account too; ``state_dict()`` is the state of it."""
        step, rmse = row["step"], row["validation_rmse"]
        if rmse is None:
            return self
        if rmse < (math.inf if self.rmse is None else self.rmse):
            copy = {name: tensor.detach().clone() for name, tensor in state_dict().items()}
            return Best(int(step or 0), rmse, copy)
        return Best(self.step, self.rmse, self.model, self.evaluations_since + 1)
