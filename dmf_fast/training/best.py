"""The best row of a run so far, and whether the patience has run out since."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dmf_fast.training.history import Row

# A run that starts near zero rests for some time before it moves. Until the train loss has changed by this
# fraction, the patience is this many times as long.
_MOVED, _REST = 0.01, 5


@dataclass(frozen=True)
class Best:
    """The row with the lowest validation RMSE so far, whose state the engine keeps, and the rows since.

    Attributes:
        step: of the best row.
        rmse: of the best row.
        rows_since: number of rows since the best one, without those before the run had moved.
        rows_at_rest: number of rows without improvement before the run had moved.
        has_moved: whether the train loss has changed by 1 % since the first row.

    """

    step: int | None = None
    rmse: float | None = None
    rows_since: int = 0
    rows_at_rest: int = 0
    has_moved: bool = False

    def after(self, row: Row, first_loss: float, *, patience_after: int = 0) -> Best:
        """Return the state after ``row``; ``first_loss`` is the train loss of the first row.

        Rows before step ``patience_after`` can be the best but do not count towards the patience.

        >>> best = Best().after({"step": 3, "train_loss": 1.0, "validation_rmse": 0.5}, first_loss=2.0)
        >>> best = best.after({"step": 4, "train_loss": 0.9, "validation_rmse": 0.6}, first_loss=2.0)
        >>> best.step, best.rows_since
        (3, 1)
        """
        step, rmse, loss = row["step"], row["validation_rmse"], row["train_loss"]
        if rmse is None:
            return self
        moved = self.has_moved or abs((loss or 0.0) - first_loss) > _MOVED * first_loss
        if rmse < (math.inf if self.rmse is None else self.rmse):
            return Best(int(step or 0), rmse, 0, self.rows_at_rest, moved)
        if (step or 0) < patience_after:
            return replace(self, has_moved=moved)
        if not moved:
            return replace(self, rows_at_rest=self.rows_at_rest + 1)
        return replace(self, rows_since=self.rows_since + 1, has_moved=True)

    def is_over(self, patience: int) -> bool:
        """Return whether the patience has run out, which is longer for a run that rests at its start."""
        return self.rows_since >= patience or self.rows_at_rest >= _REST * patience
