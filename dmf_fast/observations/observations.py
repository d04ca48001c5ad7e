"""The observed entries of a matrix: what deep matrix factorization is fitted to."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.checks import whole_number
from dmf_fast.files.identity import sha256_of
from dmf_fast.observations import conversion
from dmf_fast.observations.duplicates import Duplicates
from dmf_fast.observations.entries import in_dtype, read_entries, read_values, read_weights, sum_of_weights
from dmf_fast.observations.layout import Indices, Layout
from dmf_fast.observations.pattern import Pattern
from dmf_fast.observations.splitting import chosen, partition_masks, split_masks
from dmf_fast.observations.tiled_numbers import TiledNumbers
from dmf_fast.observations.validation import check_device, check_dtype, default_dtype, read_mask
from dmf_fast.sharding import WHOLE, RowSharding


class Observations:
    """Observed entries ``b_ij`` of an ``(m, n)`` matrix, with optional weights; immutable.

    The arrays are copied. The tiled layout that the kernels read is built in parallel at its first use and
    replaces the arrays; with float32 values about 15 bytes per entry remain. Each access to ``rows``,
    ``columns``, ``values`` or ``weights`` returns a new tensor, decoded from the layout once that is built;
    ``coordinates()`` decodes rows and columns together.

    Args:
        rows: ``(nnz,)`` integers of any width in ``[0, m)``: an array, a tensor or a list.
        columns: ``(nnz,)`` integers in ``[0, n)``.
        values: ``(nnz,)`` finite real numbers.
        shape: ``(m, n)``; by default the smallest shape that contains all entries.
        weights: ``(nnz,)`` finite numbers ≥ 0, or None for weights of 1.
        duplicates: how to treat a pair (row, column) that is given more than once. ``"error"`` raises an
            error; ``"first"`` and ``"last"`` keep that entry with its weight; ``"mean"`` keeps the (weighted)
            mean with the sum of the weights; ``"sum"`` keeps the sum, and the weights of a pair must agree.
            The remaining entries keep their order; a mean or sum takes the position of the first entry of
            its pair.
        dtype: float64, float32, bfloat16 or float16, for values and weights. By default that of
            ``values``; float32 for integers, torch's default dtype for lists.
        device: device on which the entries are used; by default that of ``values``.

    Raises:
        TypeError: indices are not integers, values or weights are not real numbers, or the dtype is not
            supported.
        ValueError: lengths differ, arrays are not one-dimensional, numbers are not finite, a weight is
            negative, a pair is repeated with ``duplicates="error"``, or ``shape`` is missing and there are no
            entries.
        IndexError: an index is negative or outside the shape.

    Example:
        >>> import dmf_fast
        >>> dmf_fast.Observations([0, 1, 1], [2, 0, 1], [5.0, 3.0, 4.0], shape=(2, 3))
        Observations(shape=(2, 3), nnz=3, density=0.5, dtype=torch.float32, device=cpu)

    """

    __slots__ = ("__weakref__", "_device", "_dtype", "_numbers", "_pattern", "_total_weight")

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
        self._hold(pattern, entries.values, entries.weights, device)

    def _hold(self, pattern: Pattern, values: Tensor, weights: Tensor | None, device: torch.device) -> None:
        """Store checked values and weights of the entries of ``pattern``, in the caller's order."""
        self._pattern, self._device, self._dtype = pattern, device, values.dtype
        self._total_weight = float(pattern.nnz) if weights is None else sum_of_weights(weights)
        on_device = None if weights is None else weights.to(device)
        self._numbers = TiledNumbers(pattern, values.to(device), on_device)

    @classmethod
    def _of(
        cls, pattern: Pattern, values: Tensor, weights: Tensor | None, device: torch.device
    ) -> Observations:
        observations = cls.__new__(cls)
        observations._hold(pattern, values, weights, device)
        return observations

    @classmethod
    def _of_layout(cls, pattern: Pattern, layout: Layout) -> Observations:
        """Return the observations of an existing layout, whose tensors must have been checked."""
        observations = cls._of(pattern, layout.values, layout.weights, layout.buffer.device)
        observations._numbers = TiledNumbers.of_layout(pattern, layout)
        return observations

    @classmethod
    def from_scipy(
        cls, matrix: Any, *, duplicates: Duplicates = "error", dtype: torch.dtype | None = None
    ) -> Observations:
        """Return the stored entries of a SciPy sparse matrix or array of any format.

        Stored zeros are observations, except in the DIA format, where they cannot be told from padding.

        Args:
            matrix: ``(m, n)`` sparse matrix or array.
            duplicates: as for the constructor, for COO matrices that store a pair more than once.
            dtype: as for the constructor.

        Raises:
            TypeError: ``matrix`` is not sparse, or as for the constructor.
            ValueError: ``matrix`` is not two-dimensional or inconsistent, or as for the constructor.

        Example:
            >>> import scipy.sparse, dmf_fast
            >>> dmf_fast.Observations.from_scipy(scipy.sparse.coo_array(([1.0, 0.0], ([0, 1], [2, 0])))).nnz
            2

        """
        rows, columns, values, shape = conversion.scipy_entries(matrix)
        return cls(rows, columns, values, shape, duplicates=duplicates, dtype=dtype)

    @classmethod
    def from_dense(cls, array: Any, mask: Any = None, *, dtype: torch.dtype | None = None) -> Observations:
        """Return the observed entries of an ``(m, n)`` array or tensor in row-major order.

        Args:
            array: ``(m, n)`` real numbers.
            mask: ``(m, n)`` booleans, True where observed. Without a mask, NaN marks unobserved entries; with
                one, an observed NaN is an error.
            dtype: as for the constructor.

        Raises:
            TypeError: ``array`` does not hold real numbers, or ``mask`` does not hold booleans.
            ValueError: ``array`` is not a matrix, the shapes differ, or an observed number is not finite.

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
        """Return the stored entries of an ``(m, n)`` sparse COO, CSR or CSC tensor, including stored zeros.

        Args:
            tensor: ``(m, n)`` sparse tensor.
            duplicates: as for the constructor, for COO tensors that are not coalesced.
            dtype: as for the constructor.

        Raises:
            TypeError: ``tensor`` is not such a tensor, or as for the constructor.
            ValueError: ``tensor`` is not two-dimensional or inconsistent, or as for the constructor.

        Example:
            >>> import torch, dmf_fast
            >>> dmf_fast.Observations.from_torch_sparse(torch.eye(3).to_sparse()).rows
            tensor([0, 1, 2])

        """
        rows, columns, values, shape = conversion.torch_sparse_entries(tensor)
        return cls(rows, columns, values, shape, duplicates=duplicates, dtype=dtype)

    @property
    def rows(self) -> Tensor:
        """Rows of the entries, int64 ``(nnz,)``, in the caller's order; a new tensor."""
        return self._index_tensor(self._pattern.coordinates()[0])

    @property
    def columns(self) -> Tensor:
        """Columns of the entries, int64 ``(nnz,)``, in the caller's order; a new tensor."""
        return self._index_tensor(self._pattern.coordinates()[1])

    def coordinates(self) -> tuple[Tensor, Tensor]:
        """Return rows and columns of the entries, int64 ``(nnz,)`` each, in the caller's order; new tensors.

        Example:
            >>> import dmf_fast
            >>> dmf_fast.Observations([1, 0], [0, 1], [2.5, 1.0]).coordinates()
            (tensor([1, 0]), tensor([0, 1]))

        """
        rows, columns = map(self._index_tensor, self._pattern.coordinates())
        return rows, columns

    def _index_tensor(self, indices: Indices) -> Tensor:
        return torch.from_numpy(indices).to(self._device, torch.int64, copy=True)

    @property
    def values(self) -> Tensor:
        """Values ``(nnz,)`` in the caller's order; a new tensor."""
        return self._numbers.values()

    @property
    def weights(self) -> Tensor | None:
        """Weights ``(nnz,)`` in the caller's order, a new tensor; None if there are none."""
        return self._numbers.weights()

    @property
    def total_weight(self) -> float:
        """Sum of the weights, in float64; ``nnz`` without weights."""
        return self._total_weight

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(m, n)`` of the matrix."""
        return self._pattern.shape

    @property
    def row_count(self) -> int:
        """Number of rows of the matrix, without the padding that row blocks may have."""
        return self.shape[0]

    @property
    def nnz(self) -> int:
        """Number of observed entries."""
        return self._pattern.nnz

    @property
    def density(self) -> float:
        """Observed fraction of the matrix, in [0, 1]; 0 for an empty matrix."""
        return self.nnz / max(1, self.shape[0] * self.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of values and weights."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self._device

    @property
    def parts(self) -> tuple[Observations, ...]:
        """The entries of this process, split by rows; here ``(self,)``."""
        return (self,)

    @property
    def sharding(self) -> RowSharding:
        """How the rows are distributed over processes; here this process has all of them."""
        return WHOLE

    def __len__(self) -> int:
        """Return the number of observed entries."""
        return self.nnz

    def __repr__(self) -> str:
        weighted = ", weighted" if self._numbers.weighted else ""
        return (
            f"Observations(shape={self.shape}, nnz={self.nnz}, density={self.density:.3g}"
            f", dtype={self.dtype}, device={self.device}{weighted})"
        )

    def __reduce__(self) -> tuple[Callable[..., Observations], tuple[Any, ...]]:
        rows, columns = map(torch.from_numpy, self._pattern.coordinates())
        return _restore, (rows, columns, self.values, self.shape, self.weights)

    def digest(self) -> str:
        """Return the SHA-256 of the entries, shape and dtype, in the caller's order.

        Example:
            >>> import dmf_fast
            >>> observations = dmf_fast.Observations([0], [1], [2.5])
            >>> observations.digest() == observations.with_values([2.5]).digest()
            True

        """
        tensors = (*self.coordinates(), self.values, self.weights)
        kind = torch.tensor(list(f"{self.shape} {self.dtype}".encode()), dtype=torch.uint8, device="cpu")
        return sha256_of(kind, *(tensor for tensor in tensors if tensor is not None))

    def layout(self) -> Layout:
        """Return the tiled layout on this device, built at the first call; its tensors must not be modified.

        Observations that share a pattern (``to``, ``with_values``) share one buffer. Thread-safe.

        Raises:
            ValueError: the matrix has too many rows, columns or entries for a layout, or there are no kernels
                for the device.

        """
        return self._numbers.layout()

    def to(
        self, device: torch.device | str | int | None = None, dtype: torch.dtype | None = None
    ) -> Observations:
        """Return these observations on ``device`` and in ``dtype``; ``self`` if nothing changes.

        Args:
            device: None for the present one.
            dtype: None for the present one.

        Raises:
            TypeError: ``device`` is not a device, or ``dtype`` is not supported.
            ValueError: ``device`` is not available, or a value or weight is too large for ``dtype``.

        Example:
            >>> import torch, dmf_fast
            >>> dmf_fast.Observations([0], [1], [2.5]).to(dtype=torch.float64).dtype
            torch.float64

        """
        device = self.device if device is None else check_device(device)
        dtype = self.dtype if dtype is None else check_dtype(dtype)
        if device == self.device and dtype == self.dtype:
            return self
        values, weights = self.values, self.weights
        converted = in_dtype("values", values, dtype)
        converted_weights = None if weights is None else in_dtype("weights", weights, dtype)
        return self._of(self._pattern, converted, converted_weights, device)

    def with_values(self, values: Any, weights: Any = None) -> Observations:
        """Return observations with other values and weights at the same positions; the layout is shared.

        Args:
            values: ``(nnz,)`` finite real numbers in the caller's order; converted to this dtype and device.
            weights: ``(nnz,)`` finite numbers ≥ 0, or None for weights of 1; pass ``observations.weights`` to
                keep the present ones.

        Raises:
            TypeError, ValueError: as for the constructor.

        Example:
            >>> import dmf_fast
            >>> dmf_fast.Observations([1, 0], [0, 1], [2.5, 1.0]).with_values([3, 4]).values
            tensor([3., 4.])

        """
        checked = read_values(values, self.nnz, self.dtype)
        checked_weights = read_weights(weights, self.nnz, self.dtype)
        return self._of(self._pattern, checked, checked_weights, self.device)

    def transpose(self) -> Observations:
        """Return the entries of the transposed matrix in the same order, with their own layout.

        Example:
            >>> import dmf_fast
            >>> dmf_fast.Observations([0], [4], [1.0], shape=(3, 5)).transpose().shape
            (5, 3)

        """
        rows, columns = self._pattern.coordinates()
        pattern = Pattern(columns, rows, (self.shape[1], self.shape[0]))
        return self._of(pattern, self.values, self.weights, self.device)

    def select(self, mask: Any) -> Observations:
        """Return the entries where ``mask`` is True, in the same order, with the same shape.

        Args:
            mask: ``(nnz,)`` booleans in the caller's order.

        Raises:
            TypeError: ``mask`` does not hold booleans.
            ValueError: ``mask`` does not have shape ``(nnz,)``.

        Example:
            >>> import dmf_fast
            >>> observations = dmf_fast.Observations([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0])
            >>> observations.select([True, False, True]).values
            tensor([1., 3.])

        """
        return self._parts(read_mask("mask", mask, self.nnz))[0]

    def split(self, test_fraction: float, seed: int) -> tuple[Observations, Observations]:
        """Return a random training and a test part, each in the caller's order.

        The test part has ``round(test_fraction * nnz)`` entries, drawn uniformly, except that every row with
        entries keeps at least one for training. This limits the test part to ``nnz`` minus the number of rows
        with entries. The same seed gives the same parts for every dtype, device and number of threads.

        Args:
            test_fraction: in [0, 1].
            seed: in [0, 2**63).

        Raises:
            TypeError: ``test_fraction`` is not a number, or ``seed`` is not an integer.
            ValueError: ``test_fraction`` or ``seed`` is out of range.

        Example:
            >>> import dmf_fast
            >>> observations = dmf_fast.Observations([0, 0, 0, 1], [0, 1, 2, 0], [1.0, 2.0, 3.0, 4.0])
            >>> [len(part) for part in observations.split(0.5, seed=0)]
            [2, 2]

        """
        return self.folds(test_fraction, 1, seed)[0]

    def folds(self, test_fraction: float, count: int, seed: int) -> list[tuple[Observations, Observations]]:
        """Return ``count`` pairs of training and test parts, as from `split`, with disjoint test parts.

        If there are not enough entries for ``count`` test parts, there are fewer pairs, but at least one.

        Args:
            test_fraction: of each test part, in [0, 1].
            count: number of pairs, at least 1.
            seed: in [0, 2**63).

        Raises:
            TypeError: as for `split`, or ``count`` is not an integer.
            ValueError: as for `split`, or ``count`` is below 1.

        Example:
            >>> import dmf_fast
            >>> observations = dmf_fast.Observations([0, 0, 0, 1], [0, 1, 2, 0], [1.0, 2.0, 3.0, 4.0])
            >>> [len(test) for _, test in observations.folds(0.25, 2, seed=0)]
            [1, 1]

        """
        count = whole_number("count", count, least=1)
        rows = self._pattern.coordinates()[0]
        masks = split_masks(rows, self.shape[0], test_fraction, seed, count)
        parts = self._parts(*(part for mask in masks for part in (~mask, mask)))
        return list(zip(parts[::2], parts[1::2], strict=True))

    def partition(self, count: int, seed: int) -> Sequence[Observations]:
        """Split the entries into ``count`` random parts whose sizes differ by at most one.

        Args:
            count: number of parts, at least 1.
            seed: in [0, 2**63).

        Raises:
            TypeError, ValueError: ``count`` is not an integer or below 1.

        Example:
            >>> import dmf_fast
            >>> observations = dmf_fast.Observations([0, 1, 2], [0, 0, 1], [1.0, 2.0, 3.0])
            >>> sorted(map(len, observations.partition(2, seed=0)))
            [1, 2]

        """
        count = whole_number("count", count, least=1)
        return self._parts(*partition_masks(self.nnz, count, seed))

    def _parts(self, *masks: NDArray[np.bool_]) -> list[Observations]:
        """Return the entries of each mask, decoding all entries only once."""
        values, weights = self.values, self.weights
        return [
            self._of(
                pattern,
                chosen(values, mask),
                None if weights is None else chosen(weights, mask),
                self.device,
            )
            for pattern, mask in zip(self._pattern.select(*masks), masks, strict=True)
        ]


def _restore(*arguments: Any) -> Observations:
    """Return unpickled observations, checked again, on the device that their values were loaded to."""
    *entries, weights = arguments
    return Observations(*entries, weights=weights)


# It only makes observations from tensors, so torch.load(weights_only=True) may call it.
torch.serialization.add_safe_globals([_restore])


def _reduced_for_a_process(observations: Observations) -> tuple[Callable[..., Any], tuple[bytes]]:
    # Tensors are sent in shared memory, which would be freed before the other process starts.
    return pickle.loads, (pickle.dumps(observations),)


ForkingPickler.register(Observations, _reduced_for_a_process)
