"""How the rows of a matrix are distributed over processes, and the collective operations on them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

# Tensors of at most this many bytes are packed into one message, since each message has a fixed cost.
_SMALL = 1 << 16
SHARDED_COLUMNS_FROM = 1 << 28
"""If ``W_1`` has at least this many numbers, every process keeps only a part of its columns and gathers the
others in each step: 1 GB in float32, of which an optimizer keeps several copies."""
_Plain = TypeVar("_Plain")


class RowSharding:
    """The rows of a matrix, distributed over the processes of a mesh, each of which has one or more parts.

    A sum over rows is computed for each part, then added up over the parts of a process and over the
    processes. With ``reproducible`` all of it is one binary tree over all parts, so that the result is
    bit-identical for any number of processes, as long as each has a power of two of parts. Otherwise the
    backend of `torch.distributed` adds in its own order, which depends on the number of processes.

    All processes must call the methods that communicate in the same order: `total`, `total_of`, `add_up`,
    `add_up_arrays`, `largest`, `any_wants`, `gathered`, `broadcast` and `together`.

    Args:
        mesh: one-dimensional mesh of the processes; None for a single process.
        part_count: number of parts of this process, each with the same number of rows.
        reproducible: whether sums are independent of the number of processes.

    Raises:
        ValueError: the mesh is not one-dimensional.

    Example:
        >>> RowSharding(part_count=2).total([torch.ones(3), torch.ones(3)])
        tensor([2., 2., 2.])

    """

    def __init__(
        self, mesh: DeviceMesh | None = None, part_count: int = 1, *, reproducible: bool = False
    ) -> None:
        if mesh is not None and mesh.ndim != 1:
            raise ValueError(f"`mesh` must have one dimension, got {mesh.ndim}; use mesh[name]")
        self.mesh, self.part_count, self.reproducible = mesh, part_count, reproducible
        self.size = 1 if mesh is None else mesh.size()
        self.rank = 0 if mesh is None else mesh.get_local_rank()

    @property
    def is_whole(self) -> bool:
        """Whether a single part of a single process holds all rows, so that there is nothing to add up."""
        return self.mesh is None and self.part_count == 1

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Split a tensor with one entry for each row of this process into its parts, along dimension 0."""
        return torch.tensor_split(rows, self.part_count)

    def total(self, of_parts: Sequence[Tensor]) -> Tensor:
        """Return the sum over all parts of all processes; a new tensor if there are several."""
        if self.mesh is None:
            return tree_sum(of_parts)
        total = tree_sum(of_parts) if len(of_parts) > 1 else of_parts[0].clone()
        self.add_up([total := total.contiguous()])
        return total

    def total_of(self, of_parts: Sequence[float]) -> float:
        """Return the sum of one number per part over all parts of all processes, in float64."""
        return self.total([torch.tensor(one, dtype=torch.float64, device="cpu") for one in of_parts]).item()

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace contiguous tensors in place with their sums over all processes, small ones together."""
        if self.mesh is None:
            return
        small: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            if tensor.numel() * tensor.element_size() <= _SMALL:
                small.setdefault(tensor.dtype, []).append(tensor)
            elif tensor.numel():
                self._add_up(tensor)
        for together in small.values():
            packed = torch.cat([tensor.reshape(-1) for tensor in together])
            self._add_up(packed)
            lengths = [tensor.numel() for tensor in together]
            for tensor, summed in zip(together, torch.split(packed, lengths), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def add_up_arrays(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Replace arrays in place by their sums over all processes; native code calls this."""
        self.add_up([torch.from_numpy(array) for array in arrays])

    def largest(self, numbers: Sequence[float]) -> list[float]:
        """Return the maximum of each number over all processes."""
        if self.mesh is None:
            return list(numbers)
        from torch import distributed

        every = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        distributed.all_reduce(every, distributed.ReduceOp.MAX, group=self._group)
        return every.tolist()

    def any_wants(self, wish: bool) -> bool:
        """Return whether ``wish``, such as to stop, is true in any process."""
        return bool(self.largest([float(wish)])[0])

    def gathered(self, of_parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors, all of one shape, of all parts of all processes in the order of their rows."""
        if self.mesh is None:
            return list(of_parts)
        own = torch.stack(list(of_parts))
        every = own.new_empty(self.size * len(own), *own.shape[1:])
        _all_gather(every, own, self._group)
        return list(every)

    def broadcast(self, value: _Plain) -> _Plain:
        """Return the ``value`` of process 0, which must be picklable."""
        if self.mesh is None:
            return value
        from torch import distributed

        values: list[Any] = [value]
        distributed.broadcast_object_list(values, group=self._group, group_src=0)
        kept: _Plain = values[0]
        return kept

    def together(self, action: Callable[[], _Plain]) -> _Plain:
        """Run ``action`` in each process and return its result; if it fails in one, all processes raise.

        Otherwise the others would wait for the process that failed. The error has a note, so that a single
        process can show it for all.
        """
        value, error = None, None
        try:
            value = action()
        except Exception as raised:
            error = raised
        if self.mesh is not None:
            from torch import distributed

            errors: list[Any] = [None] * self.size
            distributed.all_gather_object(errors, _sendable(error), group=self._group)
            first = next((place for place, one in enumerate(errors) if one is not None), None)
            if first is not None:
                error = error or errors[first]
                error.add_note(f"raised in process {first}, and therefore in all processes")
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def sharded(self, rows: Tensor) -> Tensor:
        """Return a `DTensor` sharded by rows, whose local part is ``rows``, on the same memory."""
        if self.mesh is None:
            return rows
        from torch.distributed.tensor import DTensor, Shard

        return DTensor.from_local(rows, self.mesh, [Shard(0)], run_check=False)

    def sharded_by_columns(self, whole: Tensor) -> Tensor:
        """Return ``whole`` as a `DTensor` sharded by columns."""
        if self.mesh is None:
            return whole
        from torch.distributed.tensor import Shard, distribute_tensor

        return distribute_tensor(local_part(whole), self.mesh, [Shard(1)], src_data_rank=None)

    def replicated(self, tensor: Tensor) -> Tensor:
        """Return a tensor that is equal in all processes as a replicated `DTensor`, on the same memory."""
        if self.mesh is None:
            return tensor
        from torch.distributed.tensor import DTensor, Replicate

        return DTensor.from_local(tensor, self.mesh, [Replicate()], run_check=False)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, dimension: int | None) -> Tensor:
        """Return an uninitialized tensor, sharded along ``dimension`` or, if that is None, replicated."""
        if self.mesh is None:
            return torch.empty(shape, dtype=dtype, device="cpu")
        from torch.distributed import tensor

        placement = tensor.Replicate() if dimension is None else tensor.Shard(dimension)
        return tensor.empty(*shape, dtype=dtype, device_mesh=self.mesh, placements=[placement])

    def _add_up(self, tensor: Tensor) -> None:
        from torch import distributed

        if self.size == 1:
            return
        if not self.reproducible:
            distributed.all_reduce(tensor, group=self._group)
            return
        # Every process adds up one slice, in the order of the processes, and sends it to the others.
        flat = tensor.view(-1)
        length = -(-len(flat) // self.size)
        sent = flat.new_zeros(self.size * length)
        sent[: len(flat)] = flat
        received = torch.empty_like(sent)
        distributed.all_to_all_single(received, sent, group=self._group)
        own = tree_sum(received.view(self.size, length).unbind())
        _all_gather(received, own.contiguous(), self._group)
        flat.copy_(received[: len(flat)])

    @property
    def _group(self) -> Any:
        assert self.mesh is not None
        return self.mesh.get_group()

    @property
    def _device(self) -> str:
        assert self.mesh is not None
        return self.mesh.device_type


def _sendable(error: Exception | None) -> Exception | None:
    """Return ``error``, or a `RuntimeError` with its message if it cannot be pickled."""
    try:
        return error if type(pickle.loads(pickle.dumps(error))) is type(error) else RuntimeError(str(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


WHOLE = RowSharding()
"""The sharding of a matrix that a single process holds as a single part."""


def _all_gather(every: Tensor, own: Tensor, group: Any) -> None:
    from torch import distributed

    # torch 2.13 renamed it.
    gather: Any = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
    gather(every, own, group=group)


def tree_sum(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum by pairwise summation in an order that depends only on the number of tensors.

    >>> tree_sum([torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)])
    tensor(6.)
    """
    level = list(tensors)
    while len(level) > 1:
        pairs = [one + other for one, other in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]


def is_dtensor(tensor: Tensor) -> bool:
    """Return whether a tensor is a `DTensor`, without importing `torch.distributed.tensor`.

    >>> is_dtensor(torch.ones(1))
    False
    """
    return hasattr(tensor, "device_mesh")


def local_part(tensor: Tensor) -> Tensor:
    """Return the local part of a `DTensor`, differentiably; return any other tensor as it is.

    >>> local_part(torch.ones(1))
    tensor([1.])
    """
    return tensor.to_local() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def whole_tensor(tensor: Tensor) -> Tensor:
    """Gather a `DTensor`, which may be a collective operation; return any other tensor as it is.

    >>> whole_tensor(torch.ones(1))
    tensor([1.])
    """
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def placed_as(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a local tensor as a `DTensor` with the placement of ``other``, and its shape if that is sharded.

    If ``other`` is not a `DTensor`, return the tensor as it is.

    >>> placed_as(torch.ones(1), torch.zeros(1))
    tensor([1.])
    """
    if not is_dtensor(other):
        return tensor
    from torch.distributed.tensor import DTensor

    placed: Any = other
    shape = other.shape if is_sharded(other) else tensor.shape
    strides = torch.empty(shape, device="meta").stride()  # of a contiguous one
    return DTensor.from_local(
        tensor, placed.device_mesh, placed.placements, run_check=False, shape=shape, stride=strides
    )


def sharded_dimension(tensor: Tensor) -> int | None:
    """Return the dimension along which a tensor is sharded; None if it is not sharded.

    >>> sharded_dimension(torch.ones(1)) is None
    True
    """
    placements = getattr(tensor, "placements", ())
    return next((placement.dim for placement in placements if placement.is_shard()), None)


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is sharded."""
    return sharded_dimension(tensor) is not None


def row_offsets(parts: Sequence[Any]) -> NDArray[np.int64]:
    """Return the first row of each part, counted within this process, followed by the number of rows."""
    return np.cumsum([0, *(part.shape[0] for part in parts)])
