"""The table of the rows that a run records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

Row = dict[str, float | int | None]


def history_table(rows: Sequence[Mapping[str, float | int | None]]) -> pa.Table:
    """Return the rows as a table: ``step`` int64, all other columns float64, null where not measured.

    Columns, of which a run has those that it was asked for:

    * ``step``: updates made so far; or ``time`` of gradient flow.
    * ``seconds``: of training so far.
    * ``train_loss``: the mean, before the update of that step.
    * ``validation_rmse``, ``test_rmse``: root of the weighted mean of the squared residuals.
    * ``reconstruction_mse``: mean squared error over the whole matrix.
    * ``gradient_norm``: root of the sum of the squares of all entries of the gradient.
    * ``parameter_norm``: the same of all entries of all factors.
    * ``effective_rank``, ``nuclear_norm``, ``schatten_norm``: of the product ``W_N ⋯ W_1``, the last with
      ``p = 2/N``; see `dmf_fast.spectrum`.
    * ``balancedness``: see `dmf_fast.chain.balancedness`.
    * ``singular_value_1`` and so on: of the product, the largest first.

    >>> history_table([{"step": 0, "train_loss": 2.5, "test_rmse": None}]).to_pylist()
    [{'step': 0, 'train_loss': 2.5, 'test_rmse': None}]
    """
    names = list(rows[0]) if rows else []
    return pa.table(
        {
            name: pa.array([row[name] for row in rows], pa.int64() if name == "step" else pa.float64())
            for name in names
        }
    )


def singular_value_names(count: int) -> list[str]:
    """Return the columns of the ``count`` largest singular values.

    >>> singular_value_names(2)
    ['singular_value_1', 'singular_value_2']
    """
    return [f"singular_value_{place}" for place in range(1, count + 1)]
