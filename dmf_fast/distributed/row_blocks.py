"""Observed entries whose rows are distributed over several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.checks import whole_number
from dmf_fast.distributed.block_entries import read_own_blocks
from dmf_fast.observations import Observations
from dmf_fast.observations.splitting import split_masks
from dmf_fast.sharding import RowSharding

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def _refusal(what: str) -> Any:
    """Return a method that raises a `TypeError`, for what each part has but the whole has not."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"RowBlocks do not have {what}, since each process has its own rows; use `parts` for the entries "
            "of this process, or train with dmf_fast.fit, complete_matrix or completion_loss"
        )

    refuse.__doc__ = f"Raise a `TypeError`: the entries of all processes do not have {what}."
    return refuse


class RowBlocks(Observations):
    """Observed entries of an ``(m, n)`` matrix whose rows are divided into V blocks over the processes.

    ``dmf-fast prepare`` writes such blocks, and `open` reads those of this process, V divided by the number
    of processes. They take the place of `Observations` in `dmf_fast.completion_loss`, `dmf_fast.fit` and
    `dmf_fast.completion.complete_matrix`, which are then collective: all processes must call them alike.

    ``shape``, ``nnz``, ``len`` and ``total_weight`` are those of the whole matrix. The entries are only
    available from ``parts``; there are no ``rows``, ``columns``, ``values`` or ``layout()`` of the whole.

    Args:
        blocks: the blocks of this process, in order, each with the same number of rows and all n columns.
        mesh: one-dimensional mesh of the processes; None for a single process.
        reproducible: make results bit-identical for any number of processes, as long as each has a power of
            two of blocks. Each block is then swept separately, which is slower the smaller the blocks are.
        row_counts: for each block of this process, how many of its rows are used; the others, at its end,
            are padding and stay zero. None if all are used.
        origin: identifies the source of the entries, for checkpoints; the same for any number of processes.

    Attributes:
        parts: the entries of this process: one `Observations` of its rows or, with ``reproducible``, one for
            each block.
        sharding: adds up over parts and processes.
        blocks: V.

    Raises:
        ValueError: there are no blocks; shapes, dtypes or devices differ; only some have weights; processes
            have different numbers of blocks; or blocks are too small to be swept separately.

    Example:
        >>> block = Observations([0, 1], [0, 1], [1.0, 2.0])
        >>> RowBlocks([block, block])
        RowBlocks(shape=(4, 2), nnz=4, blocks=2, processes=1, dtype=torch.float32, device=cpu)

    """

    __slots__ = (
        "_blocks_here",
        "_columns",
        "_nnz",
        "_origin",
        "_own",
        "_row_count",
        "_row_counts",
        "_rows_a_block",
        "_sharding",
    )

    rows = property(_refusal("rows"))
    columns = property(_refusal("columns"))
    values = property(_refusal("values"))
    weights = property(_refusal("weights"))
    coordinates = _refusal("coordinates")
    layout = _refusal("a layout")
    select = _refusal("an order of all entries")
    transpose = _refusal("a transpose")
    with_values = _refusal("values of their own")
    __reduce__ = _refusal("a form to be sent to another process")

    def __init__(
        self,
        blocks: Sequence[Observations],
        mesh: DeviceMesh | None = None,
        *,
        reproducible: bool = False,
        row_counts: Sequence[int] | None = None,
        origin: str = "",
    ) -> None:
        _check_alike(blocks)
        self._rows_a_block, self._columns = blocks[0].shape
        self._blocks_here = len(blocks)
        self._row_counts = (self._rows_a_block,) * len(blocks) if row_counts is None else tuple(row_counts)
        self._origin = origin or hashlib.sha256("".join(one.digest() for one in blocks).encode()).hexdigest()
        parts = list(blocks) if reproducible and len(blocks) > 1 else [_merged(blocks)]
        self._take(parts, RowSharding(mesh, len(parts), reproducible=reproducible))
        if reproducible:
            self._sharding.together(lambda: _check_large_enough(self))

    def _take(self, parts: Sequence[Observations], sharding: RowSharding) -> None:
        """Store the entries of this process, and find the totals over all processes."""
        self._own, self._sharding = tuple(parts), sharding
        self._dtype, self._device = parts[0].dtype, parts[0].device
        here = (self._blocks_here, self._rows_a_block, self._columns)
        most = sharding.largest([*here, *(-one for one in here)])
        if most != [*here, *(-one for one in here)]:  # true in all processes or in none
            raise ValueError(
                "`blocks` must have the same number and shape in all processes, got "
                f"{self._blocks_here} of shape {here[1:]} here and others elsewhere"
            )
        self._nnz = int(sharding.total_of([float(sum(part.nnz for part in parts))]))
        self._row_count = int(sharding.total_of([float(sum(self._row_counts))]))
        self._total_weight = sharding.total_of([part.total_weight for part in parts])

    @classmethod
    def open(
        cls,
        path: Path | str,
        mesh: DeviceMesh | None = None,
        *,
        reproducible: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> RowBlocks:
        """Return the blocks of this process from a folder that ``dmf-fast prepare`` wrote.

        Each process reads only its own blocks, and verifies their digests.

        Args:
            path: the folder, which all processes must be able to read.
            mesh: as for the class; its size must divide the number of blocks.
            reproducible: as for the class.
            dtype: of the values; by default that of the files.
            device: device on which they are used; by default that of the mesh.

        Raises:
            DataError: the folder does not exist, is damaged, or is of another version.
            ValueError: the number of processes does not divide the number of blocks.

        Example:
            >>> RowBlocks.open("no/such/folder")  # doctest: +ELLIPSIS
            Traceback (most recent call last):
                ...
            dmf_fast.data.errors.DataError: no/such/folder ...

        """
        device = ("cpu" if mesh is None else mesh.device_type) if device is None else device
        sharding = RowSharding(mesh)
        blocks, row_counts, origin = sharding.together(
            lambda: read_own_blocks(Path(path), sharding, dtype, device)
        )
        return cls(blocks, mesh, reproducible=reproducible, row_counts=row_counts, origin=origin)

    @property
    def parts(self) -> tuple[Observations, ...]:
        """The entries of this process: those of its rows, or those of each of its blocks."""
        return self._own

    @property
    def sharding(self) -> RowSharding:
        """The distribution of the rows, which adds up over parts and processes."""
        return self._sharding

    @property
    def blocks(self) -> int:
        """Number of blocks of all processes."""
        return self._blocks_here * self._sharding.size

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(m, n)`` of the matrix, including the padding of blocks."""
        return self._rows_a_block * self.blocks, self._columns

    @property
    def nnz(self) -> int:
        """Number of observed entries of all processes."""
        return self._nnz

    @property
    def row_count(self) -> int:
        """Number of rows of all processes, without the padding of blocks."""
        return self._row_count

    @property
    def row_is_there(self) -> Tensor:
        """Which rows of this process are not padding, ``(m / processes,)`` booleans."""
        places = torch.arange(self._rows_a_block, device="cpu")
        return torch.cat([places < count for count in self._row_counts])

    @property
    def first_block(self) -> int:
        """Index of the first block of this process."""
        return self._blocks_here * self._sharding.rank

    @property
    def rows_a_block(self) -> int:
        """Number of rows of every block, including padding."""
        return self._rows_a_block

    def generators(self, seed: int) -> list[torch.Generator]:
        """Return a generator for each block of this process, which depends only on ``seed`` and its index."""
        blocks = range(self.first_block, self.first_block + self._blocks_here)
        return [torch.Generator().manual_seed(mixed_seed(seed, block)) for block in blocks]

    def __repr__(self) -> str:
        return (
            f"RowBlocks(shape={self.shape}, nnz={self.nnz}, blocks={self.blocks}, "
            f"processes={self._sharding.size}, dtype={self.dtype}, device={self.device})"
        )

    def digest(self) -> str:
        """Return a digest of the source of the entries, the same for any number of processes."""
        of_parts = self._sharding.gathered([_as_bytes(self._origin)])
        return hashlib.sha256(b"".join(sorted({bytes(one.numpy()) for one in of_parts}))).hexdigest()

    def to(
        self, device: torch.device | str | int | None = None, dtype: torch.dtype | None = None
    ) -> RowBlocks:
        """Return these entries on ``device`` and in ``dtype``; ``self`` if nothing changes."""
        moved = [part.to(device, dtype) for part in self._own]
        if all(one is other for one, other in zip(moved, self._own, strict=True)):
            return self
        return self._with(moved, f"{dtype}")

    def map_values(self, change: Callable[[Observations], Observations], how: str) -> RowBlocks:
        """Apply ``change`` to the values of each part; ``how`` names the change, for checkpoints."""
        return self._with([change(part) for part in self._own], how)

    def folds(self, test_fraction: float, count: int, seed: int) -> list[tuple[RowBlocks, RowBlocks]]:  # type: ignore[override]
        """Return training and test parts, as `Observations.folds` does for each block separately.

        The draws of a block depend only on ``seed`` and its index.
        """
        count = whole_number("count", count, least=1)
        drawn = [
            split_masks(
                rows, self._rows_a_block, test_fraction, mixed_seed(seed, self.first_block + block), count
            )
            for block, rows in enumerate(self._rows_of_blocks())
        ]
        fewest = -int(self._sharding.largest([-float(min(map(len, drawn)))])[0])
        masks = [[one for is_test in own[:fewest] for one in (~is_test, is_test)] for own in drawn]
        names = [
            f"{kind} {test_fraction} {seed} {fold}" for fold in range(fewest) for kind in ("train", "test")
        ]
        parts = self._divided(masks, names)
        return list(zip(parts[::2], parts[1::2], strict=True))

    def split(self, test_fraction: float, seed: int) -> tuple[RowBlocks, RowBlocks]:
        """Return a training and a test part, see `folds`."""
        return self.folds(test_fraction, 1, seed)[0]

    def partition(self, count: int, seed: int) -> Sequence[RowBlocks]:
        """Split the entries into ``count`` random parts; the draws of a block depend only on its index.

        Unlike those of `Observations.partition`, their sizes are random.
        """
        count = whole_number("count", count, least=1)
        drawn = [
            torch.randint(count, (len(rows),), generator=own, device="cpu").numpy()
            for rows, own in zip(self._rows_of_blocks(), self.generators(seed), strict=True)
        ]
        masks = [[own == number for number in range(count)] for own in drawn]
        return self._divided(masks, [f"part {number} of {count} {seed}" for number in range(count)])

    def _divided(
        self, of_blocks: Sequence[Sequence[NDArray[np.bool_]]], names: Sequence[str]
    ) -> list[RowBlocks]:
        """Return the entries of each of several masks, given by block; entries are decoded only once."""
        each = len(of_blocks) // len(self._own)
        of_parts = []
        for place, part in enumerate(self._own):
            masks = zip(*of_blocks[place * each : (place + 1) * each], strict=True)
            of_parts.append(part._parts(*map(np.concatenate, masks)))
        return [
            self._with(parts, name) for parts, name in zip(zip(*of_parts, strict=True), names, strict=True)
        ]

    def _with(self, parts: Sequence[Observations], how: str) -> RowBlocks:
        """Return other entries of the same rows; ``how`` names the change."""
        other = RowBlocks.__new__(RowBlocks)
        for name in ("_blocks_here", "_rows_a_block", "_columns", "_row_counts"):
            setattr(other, name, getattr(self, name))
        other._origin = f"{self._origin}; {how}"
        other._take(parts, self._sharding)
        return other

    def _rows_of_blocks(self) -> list[NDArray[Any]]:
        """Return the rows of the entries of each block of this process, counted within the block."""
        found = []
        for part in self._own:
            rows = part._pattern.coordinates()[0]
            first_rows = np.arange(0, part.shape[0] + 1, self._rows_a_block)
            ranges = pairwise(np.searchsorted(rows, first_rows).tolist())
            found += [
                rows[begin:end] - first for (begin, end), first in zip(ranges, first_rows, strict=False)
            ]
        return found


def mixed_seed(seed: int, block: int) -> int:
    """Return a seed for a block, unrelated to the seeds of its neighbors.

    >>> mixed_seed(0, 1) != mixed_seed(1, 0)
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {block}".encode()).digest()[:7], "little")


def _check_alike(blocks: Sequence[Observations]) -> None:
    if not blocks:
        raise ValueError("`blocks` must hold at least one block in each process, got none")
    for place, block in enumerate(blocks):
        for name in ("shape", "dtype", "device"):
            own, first = getattr(block, name), getattr(blocks[0], name)
            if own != first:
                raise ValueError(f"`blocks[{place}]` must have the {name} of `blocks[0]`, {first}, got {own}")


def _merged(blocks: Sequence[Observations]) -> Observations:
    """Return the entries of all blocks as the entries of one matrix."""
    if len(blocks) == 1:
        return blocks[0]
    size, columns = blocks[0].shape
    entries = [block._pattern.coordinates() for block in blocks]
    weights = [block.weights for block in blocks]
    known = [one for one in weights if one is not None]
    if known and len(known) < len(blocks):
        raise ValueError("all `blocks` must have weights or none of them, got some with weights")
    rows = [own.astype(np.int64) + place * size for place, (own, _) in enumerate(entries)]
    return Observations(
        np.concatenate(rows),
        np.concatenate([own for _, own in entries]),
        torch.cat([block.values for block in blocks]),
        (size * len(blocks), columns),
        weights=torch.cat(known) if known else None,
        dtype=blocks[0].dtype,
        device=blocks[0].device,
    )


# With at least this many entries per column, sweeping blocks separately costs at most about 30% more, and
# less if blocks exceed the cache: `python -m bench.scaling_out_efficiency`.
LEAST_ENTRIES_PER_COLUMN = 40


def _check_large_enough(blocks: RowBlocks) -> None:
    """Raise a `ValueError` if blocks are too small to be swept separately."""
    count, columns = blocks._blocks_here, blocks.shape[1]
    if count == 1 or blocks.nnz >= LEAST_ENTRIES_PER_COLUMN * columns * blocks.blocks:
        return
    here, wanted = blocks.nnz // blocks.blocks, LEAST_ENTRIES_PER_COLUMN * columns
    raise ValueError(
        f"`reproducible` must be False if blocks have fewer than {wanted:,} entries, "
        f"{LEAST_ENTRIES_PER_COLUMN} per column, since each is swept separately, got about {here:,}; prepare "
        "the ratings with fewer --blocks"
    )


def _as_bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(hashlib.sha256(text.encode()).digest()), dtype=torch.uint8)
