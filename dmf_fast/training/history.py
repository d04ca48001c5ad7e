"""The history of a run: its recorded rows as columns of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dmf_fast.extras import require
from dmf_fast.html import html_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, float | int | None]


@dataclass(frozen=True, eq=False, repr=False)
class History(Mapping[str, list[float]]):
    """The recorded rows of a run: a mapping from column names to numbers, one for every row.

    The numbers are Python floats, ``nan`` where a quantity was not measured; ``step`` and ``depth`` are
    integers. A history has those of these columns that were requested:

    * ``step``: number of updates so far; for gradient flow, ``time`` instead.
    * ``seconds``: training time so far.
    * ``train_loss``: the mean loss, before the update of that step.
    * ``validation_rmse``, ``test_rmse``: root of the weighted mean squared residual.
    * ``reconstruction_mse``: mean squared error over the whole matrix.
    * ``gradient_norm``: Frobenius norm of all gradients together.
    * ``parameter_norm``: Frobenius norm of all parameters together, biases included.
    * ``effective_rank``, ``nuclear_norm``, ``schatten_norm``: of the product ``W_N ⋯ W_1``, the last with
      ``p = 2/N``; see `dmf_fast.spectrum`.
    * ``balancedness``: see `dmf_fast.chain.balancedness`.
    * ``singular_value_1`` and so on: of the product, in descending order.

    Attributes:
        table: the same as a `pyarrow.Table`, null where a quantity was not measured, for files and other
            libraries, as in ``polars.from_arrow(history.table)``.

    Example:
        >>> history = History.of_rows([{"step": 0, "train_loss": 2.5}, {"step": 9, "train_loss": 0.5}])
        >>> history["train_loss"][-1]
        0.5
        >>> history
        History(2 rows: step, train_loss)

    """

    table: pa.Table

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, float | int | None]]) -> History:
        """Return the history of these rows, all with the same columns.

        >>> History.of_rows([{"step": 0, "train_loss": None}])["train_loss"]
        [nan]
        """
        names = list(rows[0]) if rows else []
        types = {name: pa.int64() if name == "step" else pa.float64() for name in names}
        return cls(pa.table({name: pa.array([row[name] for row in rows], types[name]) for name in names}))

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.table.column_names:
            raise KeyError(f"{name!r} was not recorded; the columns are {', '.join(self)}")
        column = self.table[name]
        numbers: list[float] = (column.fill_null(float("nan")) if column.null_count else column).to_pylist()
        return numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.column_names)

    def __len__(self) -> int:
        return len(self.table.column_names)

    def __eq__(self, other: object) -> bool:
        return self.table.equals(other.table) if isinstance(other, History) else NotImplemented

    def __repr__(self) -> str:
        return f"History({self.table.num_rows:,} rows: {', '.join(self)})"

    def _repr_html_(self) -> str:
        measured = [name for name in self if self.table[name].null_count < self.table.num_rows]
        return html_table(self.table.select(measured), "History")

    def to_pandas(self) -> Any:
        """Return the history as a `pandas.DataFrame`, with one row per recorded row."""
        return self.table.to_pandas()

    def plot(self) -> list[Axes]:
        """Plot the losses on a logarithmic axis and, if recorded, the singular values.

        The figure belongs to `matplotlib.pyplot`: notebooks show it, and so does ``pyplot.show()``. It needs
        Matplotlib: ``pip install "dmf-fast[plots]"``.

        Returns:
            The axes of the losses, followed by those of the singular values, if any.

        Raises:
            MissingExtraError: Matplotlib is not installed.

        Example:
            >>> history = History.of_rows([{"step": 0, "train_loss": 2.5}, {"step": 9, "train_loss": 0.5}])
            >>> (axes,) = history.plot()
            >>> axes.get_yscale()
            'log'
            >>> axes.figure.savefig("losses.png")  # doctest: +SKIP

        """
        require("`plot`", "matplotlib")
        from dmf_fast.training.plots import plot_history

        return plot_history(self)


def singular_value_names(count: int) -> list[str]:
    """Return the columns of the ``count`` largest singular values.

    >>> singular_value_names(2)
    ['singular_value_1', 'singular_value_2']
    """
    return [f"singular_value_{place}" for place in range(1, count + 1)]
