"""The observed entries of a matrix: what deep matrix factorization is fitted to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dmf_fast.observations import conversion
from dmf_fast.observations.duplicates import Duplicates
from dmf_fast.observations.entries import read_entries, read_values, read_weights
from dmf_fast.observations.layout import Layout
from dmf_fast.observations.pattern import Pattern
from dmf_fast.observations.storage import Storage
from dmf_fast.observations.validation import check_device, check_dtype, default_dtype


class Observations:
    """Observed entries ``b_ij`` of an ``(m, n)`` matrix, with weights or without; immutable.

    The arrays are copied. The tiled layout that the kernels read is built at its first use, in parallel,
    and replaces the arrays: about 15 bytes an entry remain for float32 values. Every read of ``rows``,
    ``columns``, ``values`` or ``weights`` returns a new tensor, from then on decoded from the layout.

    Args:
        rows: ``(nnz,)`` integers of any width in ``[0, m)``: an array, a tensor or a list.
        columns: ``(nnz,)`` integers in ``[0, n)``.
        values: ``(nnz,)`` real and finite numbers.
        shape: ``(m, n)``; by default the smallest that holds all entries.
        weights: ``(nnz,)`` finite numbers ≥ 0, or None for weights of 1.
        duplicates: what happens to a pair that is given more than once. ``"error"`` refuses it;
            ``"first"`` and ``"last"`` keep that entry with its weight; ``"mean"`` keeps the mean, weighted
            where there are weights, with the sum of the weights; ``"sum"`` keeps the sum, and the weights
            of a pair must agree. Entries stay in the order of the ones that are kept; means and sums
            stand in the place of their first.
        dtype: float64, float32, bfloat16 or float16, for values and weights. By default that of
            ``values``; float32 for integers, torch's default dtype for lists.
        device: where the entries are used; by default where ``values`` are.

    Raises:
        TypeError: indices are not integers, values or weights not real numbers, or an unsupported dtype.
        ValueError: lengths disagree, arrays are not one-dimensional, numbers are not finite, a weight is
            negative, a pair is given twice, or the shape is missing where there are no entries.
        IndexError: an index is negative or beyond the shape.

    Example:
        >>> import dmf_fast
        >>> dmf_fast.Observations([0, 1, 1], [2, 0, 1], [5.0, 3.0, 4.0], shape=(2, 3))
        Observations(shape=(2, 3), nnz=3, density=0.5, dtype=torch.float32, device=cpu)

    """

    __slots__ = ("__weakref__", "_storage")

    def __init__(
        self,
        rows: Any,
        columns: Any,
        values: Any,
        shape: tuple[int, int] | None = None,
        *,
        weights: Any = None,
        duplicates: Duplicates = "error",
        dtype: torch.dtype | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        dtype = check_dtype(default_dtype(values) if dtype is None else dtype)
        if device is None:
            device = values.device if isinstance(values, Tensor) else "cpu"
        device = check_device(device)
        entries = read_entries(rows, columns, values, weights, shape, dtype, duplicates)
        pattern = Pattern(entries.rows, entries.columns, entries.shape)
        self._storage = Storage(pattern, entries.values, entries.weights, device)

    @classmethod
    def from_scipy(
        cls, matrix: Any, *, duplicates: Duplicates = "error", dtype: torch.dtype | None = None
    ) -> Observations:
        """Return the stored entries of a SciPy sparse matrix or array of any format.

        Stored zeros are observations. (The DIA format cannot tell its zeros from padding: SciPy drops
        them.) A COO matrix that stores a pair twice falls under ``duplicates``.

        Raises:
            TypeError, ValueError: ``matrix`` is not one, or as for the constructor.

        Example:
            >>> import scipy.sparse, dmf_fast
            >>> dmf_fast.Observations.from_scipy(scipy.sparse.coo_array(([1.0, 0.0], ([0, 1], [2, 0])))).nnz
            2

        """
        rows, columns, values, shape = conversion.scipy_entries(matrix)
        return cls(rows, columns, values, shape, duplicates=duplicates, dtype=dtype)

    @classmethod
    def from_dense(cls, array: Any, mask: Any = None, *, dtype: torch.dtype | None = None) -> Observations:
        """Return the observed entries of an ``(m, n)`` array or tensor, row by row.

        Args:
            array: ``(m, n)`` real numbers.
            mask: ``(m, n)`` booleans, True where observed. Without a mask NaN marks the holes; with one a
                NaN at an observed place is an error.
            dtype: as for the constructor.

        Raises:
            TypeError: ``array`` does not hold real numbers, or ``mask`` no booleans.
            ValueError: ``array`` is not a matrix, the shapes disagree, or an observed number is not finite.

        Example:
            >>> import dmf_fast
            >>> dmf_fast.Observations.from_dense([[1.0, float("nan")], [3.0, 4.0]]).values
            tensor([1., 3., 4.])

        """
        rows, columns, values, shape = conversion.dense_entries(array, mask)
        device = array.device if isinstance(array, Tensor) else None
        dtype = default_dtype(array) if dtype is None else dtype
        return cls(rows, columns, values, shape, dtype=dtype, device=device)

    @classmethod
    def from_torch_sparse(
        cls, tensor: Tensor, *, duplicates: Duplicates = "error", dtype: torch.dtype | None = None
    ) -> Observations:
        """Return the stored entries of an ``(m, n)`` sparse COO, CSR or CSC tensor, stored zeros included.

        A COO tensor that is not coalesced may store a pair twice: that falls under ``duplicates``.

        Raises:
            TypeError, ValueError: ``tensor`` is not one, or as for the constructor.

        Example:
            >>> import torch, dmf_fast
            >>> dmf_fast.Observations.from_torch_sparse(torch.eye(3).to_sparse()).rows
            tensor([0, 1, 2])

        """
        rows, columns, values, shape = conversion.torch_sparse_entries(tensor)
        return cls(rows, columns, values, shape, duplicates=duplicates, dtype=dtype)

    @property
    def rows(self) -> Tensor:
        """Row of every entry, int64 ``(nnz,)``, in the caller's order; a new tensor."""
        return self._storage.rows()

    @property
    def columns(self) -> Tensor:
        """Column of every entry, int64 ``(nnz,)``, in the caller's order; a new tensor."""
        return self._storage.columns()

    @property
    def values(self) -> Tensor:
        """Values ``(nnz,)`` in the caller's order; a new tensor."""
        return self._storage.values()

    @property
    def weights(self) -> Tensor | None:
        """Weights ``(nnz,)`` in the caller's order, a new tensor; or None where all are 1."""
        return self._storage.weights()

    @property
    def total_weight(self) -> float:
        """Sum of the weights, in float64; ``nnz`` where there are none."""
        return self._storage.total_weight

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns ``(m, n)`` of the matrix."""
        return self._storage.pattern.shape

    @property
    def nnz(self) -> int:
        """Number of observed entries."""
        return self._storage.pattern.nnz

    @property
    def density(self) -> float:
        """Observed share of the matrix, in [0, 1]; 0 for a matrix without cells."""
        return self.nnz / max(1, self.shape[0] * self.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of values and weights."""
        return self._storage.dtype

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self._storage.device

    def __len__(self) -> int:
        """Return the number of observed entries."""
        return self.nnz

    def __repr__(self) -> str:
        weighted = ", weighted" if self._storage.weighted else ""
        return (
            f"Observations(shape={self.shape}, nnz={self.nnz}, density={self.density:.3g}"
            f", dtype={self.dtype}, device={self.device}{weighted})"
        )

    def __reduce__(self) -> tuple[Callable[..., Observations], tuple[Any, ...]]:
        return _restore, self._storage.arguments()

    def layout(self) -> Layout:
        """Return the tiled layout on this device, built at the first call; its tensors are not to be written.

        All observations that share a pattern (``to``, ``with_values``) share one buffer. Safe to call from
        several threads.

        Raises:
            ValueError: the matrix has too many rows and columns for its number of entries.

        """
        return self._storage.layout()

    def to(
        self, device: torch.device | str | int | None = None, dtype: torch.dtype | None = None
    ) -> Observations:
        """Return these observations on ``device`` and in ``dtype``; ``self`` where nothing changes.

        Raises:
            TypeError: ``device`` is no device or ``dtype`` is not supported.
            ValueError: a value or weight is too large for ``dtype``.

        Example:
            >>> import torch, dmf_fast
            >>> dmf_fast.Observations([0], [1], [2.5]).to(dtype=torch.float64).dtype
            torch.float64

        """
        device = self.device if device is None else check_device(device)
        dtype = self.dtype if dtype is None else check_dtype(dtype)
        if device == self.device and dtype == self.dtype:
            return self
        return holding(self._storage.converted(device, dtype))

    def with_values(self, values: Any, weights: Any = None) -> Observations:
        """Return other values, and other weights or none, at the same places; the layout is shared.

        Args:
            values: ``(nnz,)`` real and finite numbers in the caller's order; converted to this dtype and
                device.
            weights: ``(nnz,)`` finite numbers ≥ 0; None for weights of 1, also where this object has
                others: pass ``observations.weights`` to keep those.

        Raises:
            TypeError, ValueError: as for the constructor.

        Example:
            >>> import dmf_fast
            >>> dmf_fast.Observations([1, 0], [0, 1], [2.5, 1.0]).with_values([3, 4]).values
            tensor([3., 4.])

        """
        checked = read_values(values, self.nnz, self.dtype)
        checked_weights = read_weights(weights, self.nnz, self.dtype)
        return holding(Storage(self._storage.pattern, checked, checked_weights, self.device))

    def transpose(self) -> Observations:
        """Return the entries of the transposed matrix, in the same order; it has a layout of its own.

        Example:
            >>> import dmf_fast
            >>> dmf_fast.Observations([0], [4], [1.0], shape=(3, 5)).transpose().shape
            (5, 3)

        """
        return holding(self._storage.transposed())

    def split(self, test_fraction: float, seed: int) -> tuple[Observations, Observations]:
        """Return a random training and test part, each in the caller's order.

        The test part has ``round(test_fraction * nnz)`` entries, drawn uniformly except that every row
        with entries keeps at least one of them for training. Where rows are so short that this forbids
        it, the test part is smaller: at most ``nnz`` less the number of rows that have entries. The same
        seed gives the same parts, whatever the dtype, device and number of threads.

        Args:
            test_fraction: in [0, 1].
            seed: in [0, 2**63).

        Raises:
            TypeError, ValueError: ``test_fraction`` or ``seed`` is of another type or outside its range.

        Example:
            >>> import dmf_fast
            >>> observations = dmf_fast.Observations([0, 0, 0, 1], [0, 1, 2, 0], [1.0, 2.0, 3.0, 4.0])
            >>> [len(part) for part in observations.split(0.5, seed=0)]
            [2, 2]

        """
        train, test = self._storage.split(test_fraction, seed)
        return holding(train), holding(test)


def holding(storage: Storage) -> Observations:
    """Return the observations that ``storage`` holds."""
    observations = object.__new__(Observations)
    observations._storage = storage
    return observations


def _restore(*arguments: Any) -> Observations:
    """Return what was pickled, checked again, where its values were loaded to."""
    *entries, weights = arguments
    return Observations(*entries, weights=weights)
