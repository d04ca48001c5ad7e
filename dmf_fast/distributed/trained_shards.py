"""Writing a trained folder from one process while the rows are distributed over several."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.data.id_map import IdMap
from dmf_fast.distributed.row_blocks import RowBlocks
from dmf_fast.distributed.row_ids import RowIds, read_column_ids
from dmf_fast.evaluation.baselines import Biases
from dmf_fast.evaluation.biases_file import BIASES, BIASES_KIND, biases_facts
from dmf_fast.files.tensors import Chunks, in_file_order, save_chunks
from dmf_fast.serving.predictor import MODEL_KIND, Predictor
from dmf_fast.serving.seen_columns import SEEN_KIND, SeenColumns
from dmf_fast.serving.trained_folder import COLUMN_IDS, ROW_IDS, SEEN, depths_of, model_name, write_facts
from dmf_fast.sharding import RowSharding, local_part, whole_tensor

_CHUNK_BYTES = 1 << 22  # sent at a time


def fill_trained_folder_of_shards(
    folder: Path | None,
    predictors: Sequence[Predictor],
    observed: RowBlocks,
    blocks_path: Path,
    biases: Biases,
) -> None:
    """Write a model with distributed rows as `fill_trained_folder` and `save_biases` write a local one.

    This is a collective operation. Process 0 receives the rows a few megabytes at a time in the order of the
    files, that of their ids. It holds the ids of all rows and a few numbers for each.

    Args:
        folder: the folder to fill, on process 0; None on the others.
        predictors: models of different depths; the first is the main one.
        observed: the training entries.
        blocks_path: the folder that they were read from.
        biases: the biases, with those of the rows of this process.

    Raises:
        ValueError: there is no predictor, or two have the same depth.
        DataError: ids cannot be read.
        OSError: the folder cannot be written; raised in all processes.

    """
    sharding, depths = observed.sharding, depths_of(predictors)
    rows = sharding.together(lambda: _RowsById.read(folder is not None, observed, blocks_path))
    shape = (observed.row_count, observed.shape[1])

    def save(tensors: Mapping[str, Chunks], name: str, kind: str, facts: str) -> None:
        sharding.together(lambda: _save(tensors, None if folder is None else folder / name, kind, facts))

    for depth, predictor in zip(depths, predictors, strict=True):
        save(_model(predictor, rows), model_name(depth), MODEL_KIND, predictor.facts(shape))
    save(_biases(biases, rows), BIASES, BIASES_KIND, biases_facts(biases))
    save(_seen(SeenColumns.of(observed), observed, rows), SEEN, SEEN_KIND, json.dumps(shape))

    def write_the_rest() -> None:
        if folder is not None and rows.ids is not None:
            rows.ids.save(folder / ROW_IDS)
            read_column_ids(blocks_path).save(folder / COLUMN_IDS)
            write_facts(folder, depths)

    sharding.together(write_the_rest)


def _save(tensors: Mapping[str, Chunks], path: Path | None, kind: str, facts: str) -> None:
    """Write a file on process 0; the others send their parts."""
    try:
        if path is not None:
            save_chunks(tensors, path, kind, facts)
    finally:  # drain the rest, since the others must not wait if the file cannot be written
        for name in in_file_order(tensors):
            deque(tensors[name].parts, maxlen=0)


def _model(predictor: Predictor, rows: _RowsById) -> dict[str, Chunks]:
    depth = len(predictor.model.factors)
    return {
        name: rows.chunks(local_part(tensor))
        if name in (f"factors.{depth - 1}", "row_bias")
        else _whole(tensor)
        for name, tensor in predictor.model.state_dict().items()
    }


def _biases(biases: Biases, rows: _RowsById) -> dict[str, Chunks]:
    return {
        "row_biases": rows.chunks(torch.from_numpy(biases.row_biases)),
        "column_biases": _whole(torch.from_numpy(biases.column_biases)),
    }


def _seen(seen: SeenColumns, observed: RowBlocks, rows: _RowsById) -> dict[str, Chunks]:
    counts = seen.offsets.diff()
    in_order = list(rows.chunks(counts).parts)
    offsets = torch.cat([counts.new_zeros(1), *in_order]).cumsum(0)
    columns = rows.merged(seen.of_rows, offsets * seen.columns.itemsize, offsets.diff().numpy())
    return {
        "offsets": _whole(offsets),
        "columns": Chunks(seen.columns.dtype, (observed.nnz,), columns),
    }


def _whole(tensor: Tensor) -> Chunks:
    whole = whole_tensor(tensor)
    return Chunks(whole.dtype, tuple(whole.shape), (whole,))


@dataclass(frozen=True, eq=False)
class _RowsById:
    """The rows of all processes in the order of their ids.

    Attributes:
        sharding: of the rows.
        here: the rows of this process in that order.
        count: number of rows of all processes.
        ids: of all rows, on process 0; None on the others.
        owners: the process of each row, on process 0; empty on the others.

    """

    sharding: RowSharding
    here: Tensor
    count: int
    ids: IdMap | None
    owners: NDArray[np.int32]

    @classmethod
    def read(cls, is_first: bool, observed: RowBlocks, path: Path) -> _RowsById:
        """Read the ids from their folder: on process 0 all of them, on the others their own."""
        here = torch.from_numpy(RowIds.of(observed, path).rows)
        sharding, ids, owners = observed.sharding, None, np.empty(0, dtype=np.int32)
        if is_first:
            every = RowIds.read(path, range(observed.blocks), observed.rows_a_block)
            ids, rows_here = every.map, observed.rows_a_block * observed.blocks // sharding.size
            owners = (every.rows // rows_here).astype(np.int32)
        return cls(sharding, here, observed.row_count, ids, owners)

    def chunks(self, local: Tensor) -> Chunks:
        """Return a tensor with entries for all rows, given those of this process, in chunks."""
        numbers = local[:1].numel()
        ends = torch.arange(len(self.owners) + 1) * (numbers * local.itemsize)
        shape = (self.count, *local.shape[1:])
        return Chunks(local.dtype, shape, self.merged(lambda rows: local[rows], ends))

    def merged(
        self,
        of_rows: Callable[[Tensor], Tensor],
        ends: Tensor,
        lengths: NDArray[np.int64] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the items of all rows on process 0, in chunks; the others send theirs and yield nothing.

        Args:
            of_rows: returns the items of given rows of this process, concatenated.
            ends: on process 0, the byte offset of each row, ``(rows + 1,)``.
            lengths: on process 0, the number of items of each row; None for one each.

        """
        bounds = _bounds(ends)
        counts = self.sharding.broadcast(
            [
                np.bincount(self.owners[begin:end], minlength=self.sharding.size).tolist()
                for begin, end in pairwise(bounds)
            ]
        )
        done = 0
        for chunk, of_processes in enumerate(counts):
            count = of_processes[self.sharding.rank]
            own = of_rows(self.here[done : done + count])
            done += count
            if self.sharding.rank:
                self._send(own)
                continue
            rows = slice(bounds[chunk], bounds[chunk + 1])
            owners = self.owners[rows]
            yield self._joined(own, owners if lengths is None else np.repeat(owners, lengths[rows]))

    def _joined(self, own: Tensor, owners: NDArray[np.int32]) -> Tensor:
        """Return the items of a chunk in order, receiving those of other processes, given their owners."""
        if self.sharding.size == 1:
            return own
        every = own.new_empty(len(owners), *own.shape[1:])
        for process in range(self.sharding.size):
            places = torch.from_numpy(np.flatnonzero(owners == process)).to(every.device)
            every[places] = own if process == 0 else self._received(process, own, len(places))
        return every

    def _send(self, own: Tensor) -> None:
        from torch import distributed

        assert self.sharding.mesh is not None
        if own.numel():
            sent = own.contiguous().to(self.sharding.mesh.device_type)
            distributed.send(_as_bytes(sent), group=self.sharding.mesh.get_group(), group_dst=0)

    def _received(self, process: int, like: Tensor, count: int) -> Tensor:
        from torch import distributed

        assert self.sharding.mesh is not None
        theirs = like.new_empty(count, *like.shape[1:], device=self.sharding.mesh.device_type)
        if theirs.numel():
            distributed.recv(_as_bytes(theirs), group=self.sharding.mesh.get_group(), group_src=process)
        return theirs.to(like.device)


def _as_bytes(tensor: Tensor) -> Tensor:
    """Return the memory of a contiguous tensor of any dtype as bytes, which every backend can send."""
    return tensor.view(-1).view(torch.uint8)


def _bounds(ends: Tensor) -> list[int]:
    """Return the bounds of chunks of about `_CHUNK_BYTES`, and of at least one row."""
    bounds, last = [0], len(ends) - 1
    while bounds[-1] < last:
        most = int(ends[bounds[-1]]) + _CHUNK_BYTES
        end = int(torch.searchsorted(ends, most, right=True)) - 1
        bounds.append(max(end, bounds[-1] + 1))
    return bounds
