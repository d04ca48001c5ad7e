"""How the rows of a matrix are shared out to processes, and what these compute together."""

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

# Bytes up to which tensors travel together: what a message costs besides its bytes.
_SMALL = 1 << 16
SHARDED_COLUMNS_FROM = 1 << 28
"""Numbers of ``W_1`` from which on every process keeps some of its columns, and gathers the others in a step:
1 GB in float32, of which an optimizer keeps several times as much."""
_Plain = TypeVar("_Plain")


class RowSharding:
    """The rows of a matrix in the hands of the processes of a mesh, each with one or several parts of them.

    Whatever is a sum over the rows is computed for every part, then added up over the parts of a process and
    over the processes. With ``reproducible`` all of it is one binary tree over all parts: bitwise the same in
    however many hands they are, as long as each has a power of two of them. Else the backend of
    `torch.distributed` adds up in its own order, which depends on the number of processes.

    Every process must call the methods that communicate in the same order: `total`, `total_of`, `add_up`,
    `add_up_arrays`, `largest`, `any_wants`, `gathered`, `broadcast` and `together`.

    Args:
        mesh: of one dimension, over the processes; None for a process alone.
        part_count: how many parts of rows, equally many in each, this process has.
        reproducible: whether sums do not depend on the number of processes.

    Raises:
        ValueError: the mesh has another dimension than one.

    Example:
        >>> RowSharding(part_count=2).total([torch.ones(3), torch.ones(3)])
        tensor([2., 2., 2.])

    """

    def __init__(
        self, mesh: DeviceMesh | None = None, part_count: int = 1, *, reproducible: bool = False
    ) -> None:
        if mesh is not None and mesh.ndim != 1:
            raise ValueError(
                f"`mesh` must have one dimension, the processes, got {mesh.ndim}; take mesh[name]"
            )
        self.mesh, self.part_count, self.reproducible = mesh, part_count, reproducible
        self.size = 1 if mesh is None else mesh.size()
        self.rank = 0 if mesh is None else mesh.get_local_rank()

    @property
    def is_whole(self) -> bool:
        """Whether one part of one process is all there is, so that nothing is added up."""
        return self.mesh is None and self.part_count == 1

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return what belongs to every part, of something with a number, or more, for each row here."""
        return torch.tensor_split(rows, self.part_count)

    def total(self, of_parts: Sequence[Tensor]) -> Tensor:
        """Return the sum over all parts of all processes; a new tensor where there are several."""
        if self.mesh is None:
            return tree_sum(of_parts)
        total = tree_sum(of_parts) if len(of_parts) > 1 else of_parts[0].clone()
        self.add_up([total := total.contiguous()])
        return total

    def total_of(self, of_parts: Sequence[float]) -> float:
        """Return the sum of a number of every part, in float64."""
        return self.total([torch.tensor(one, dtype=torch.float64, device="cpu") for one in of_parts]).item()

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Put the sums over all processes in the place of contiguous tensors; small ones travel together."""
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
        """Put the sums over all processes in the place of arrays: what native code calls."""
        self.add_up([torch.from_numpy(array) for array in arrays])

    def largest(self, numbers: Sequence[float]) -> list[float]:
        """Return the largest of every number over all processes."""
        if self.mesh is None:
            return list(numbers)
        from torch import distributed

        every = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        distributed.all_reduce(every, distributed.ReduceOp.MAX, group=self._group)
        return every.tolist()

    def any_wants(self, wish: bool) -> bool:
        """Return whether any process wishes something, such as to stop."""
        return bool(self.largest([float(wish)])[0])

    def gathered(self, of_parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors, of one shape, of all parts of all processes in the order of their rows."""
        if self.mesh is None:
            return list(of_parts)
        own = torch.stack(list(of_parts))
        every = own.new_empty(self.size * len(own), *own.shape[1:])
        _all_gather(every, own, self._group)
        return list(every)

    def broadcast(self, value: _Plain) -> _Plain:
        """Return what process 0 gives: a value that pickle takes."""
        if self.mesh is None:
            return value
        from torch import distributed

        values: list[Any] = [value]
        distributed.broadcast_object_list(values, group=self._group, group_src=0)
        kept: _Plain = values[0]
        return kept

    def together(self, action: Callable[[], _Plain]) -> _Plain:
        """Return what this process gets of something that each does alone; where one fails, all raise that.

        Else the others would wait for one that has failed. The error has a note, so that one process may show
        it for all.
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
                error.add_note(f"raised in process {first}, and so in all of them")
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def sharded(self, rows: Tensor) -> Tensor:
        """Return the rows of this process as a part of a `DTensor` with all of them, on the same memory."""
        if self.mesh is None:
            return rows
        from torch.distributed.tensor import DTensor, Shard

        return DTensor.from_local(rows, self.mesh, [Shard(0)], run_check=False)

    def sharded_by_columns(self, whole: Tensor) -> Tensor:
        """Return a `DTensor` of which every process keeps some columns, given all of them."""
        if self.mesh is None:
            return whole
        from torch.distributed.tensor import Shard, distribute_tensor

        return distribute_tensor(local_part(whole), self.mesh, [Shard(1)], src_data_rank=None)

    def replicated(self, tensor: Tensor) -> Tensor:
        """Return what all processes have alike as a `DTensor`, on the same memory."""
        if self.mesh is None:
            return tensor
        from torch.distributed.tensor import DTensor, Replicate

        return DTensor.from_local(tensor, self.mesh, [Replicate()], run_check=False)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, dimension: int | None) -> Tensor:
        """Return a tensor to be filled; each process has a part along a dimension, or all of it for None."""
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
        # Every process adds up a slice of all, in the order of the processes, and gives it to the others.
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
    """Return an error, or one with its words where pickle cannot bring it to another process."""
    try:
        return error if type(pickle.loads(pickle.dumps(error))) is type(error) else RuntimeError(str(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


WHOLE = RowSharding()
"""The rows of a matrix that one process has as one part."""


def _all_gather(every: Tensor, own: Tensor, group: Any) -> None:
    from torch import distributed

    # Its name from torch 2.13 on, and before.
    gather: Any = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
    gather(every, own, group=group)


def tree_sum(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum, neighbors first, then neighbors of these: the order depends on their number alone.

    >>> tree_sum([torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)])
    tensor(6.)
    """
    level = list(tensors)
    while len(level) > 1:
        pairs = [one + other for one, other in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]


def is_dtensor(tensor: Tensor) -> bool:
    """Say whether a tensor is a `DTensor`, without importing that.

    >>> is_dtensor(torch.ones(1))
    False
    """
    return hasattr(tensor, "device_mesh")


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process has of a `DTensor`, differentiable; any other tensor is itself.

    >>> local_part(torch.ones(1))
    tensor([1.])
    """
    return tensor.to_local() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return all of a `DTensor`, for which all processes may have to call it; any other tensor is itself.

    >>> whole_tensor(torch.ones(1))
    tensor([1.])
    """
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def placed_as(tensor: Tensor, other: Tensor) -> Tensor:
    """Return what this process has as a `DTensor` placed as ``other`` is, of its shape where that is sharded.

    Where ``other`` is no `DTensor`, it is the tensor itself.

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
    """Return along which dimension every process has another part of the tensor, None where it has all.

    >>> sharded_dimension(torch.ones(1)) is None
    True
    """
    placements = getattr(tensor, "placements", ())
    return next((placement.dim for placement in placements if placement.is_shard()), None)


def is_sharded(tensor: Tensor) -> bool:
    """Say whether every process has another part of the tensor."""
    return sharded_dimension(tensor) is not None


def row_offsets(parts: Sequence[Any]) -> NDArray[np.int64]:
    """Return the row of this process at which each part begins, and the number of its rows."""
    return np.cumsum([0, *(part.shape[0] for part in parts)])
