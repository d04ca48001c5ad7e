"""Checkpoints: folders that are there whole or not at all, whenever the process is killed.

A checkpoint folder holds numbered versions, of which the highest counts::

    checkpoint/version-7/tensors.safetensors    model, best model, optimizer, random generators
                         state.json             everything that is not a tensor
                         shard-….safetensors    of tensors that processes share, what each of them has
                         SHA256SUMS             of all of these, for `sha256sum --check`
               lock                             held by the run that uses the folder

Only when a version is there, whole and on the disk, are older ones removed. Where processes share the rows of
a run, all of them call these functions and see the folder; `torch.distributed.checkpoint` writes the shards,
which any number of processes can read again.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dmf_fast.checks import printable
from dmf_fast.files.atomic import atomic_folder, remove_strays
from dmf_fast.files.digests import check_sums, read_sums, write_sums
from dmf_fast.files.identity import first_difference
from dmf_fast.files.lock import locked
from dmf_fast.files.packing import pack, unpack
from dmf_fast.files.reading import read_record, reading
from dmf_fast.files.tensors import write_tensors
from dmf_fast.sharding import WHOLE, RowSharding, is_dtensor, sharded_dimension

_TENSORS, _STATE = "tensors.safetensors", "state.json"
_VERSION = "version-"
_NUMBER = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)
_FORMAT = 4


def has_checkpoint(folder: Path) -> bool:
    """Say whether there is a checkpoint in ``folder``.

    >>> has_checkpoint(Path("no/such/folder"))
    False
    """
    return _latest_version(folder) is not None


@contextmanager
def held_folder(
    checkpoint: Path | str | None, *, every: int | None, resume: bool, sharding: RowSharding = WHOLE
) -> Iterator[Path | None]:
    """Give the folder for checkpoints, which no other run may use meanwhile.

    Of processes that share the rows of a run, the first one holds it.

    Raises a `ValueError` where ``resume`` or checkpoints ``every`` so many steps need one and none is given,
    where it is a file, where another run uses it, or where it holds a checkpoint that ``resume`` does not ask
    for.

    >>> with held_folder(None, every=None, resume=False) as folder:
    ...     folder is None
    True
    """
    if checkpoint is None:
        if resume or every is not None:
            what = "resume" if resume else "checkpoint_every"
            raise ValueError(f"`checkpoint` must be a folder where `{what}` is given, got None")
        yield None
        return
    folder = Path(checkpoint)
    with ExitStack() as stack:
        sharding.together(lambda: None if sharding.rank else _hold(folder, resume, stack))
        yield folder


def _hold(folder: Path, resume: bool, stack: ExitStack) -> None:
    """Lock the folder until the end of the stack; what is in the way is an error."""
    stack.enter_context(locked(folder))
    if not resume and has_checkpoint(folder):
        raise ValueError(
            f"{folder} holds a checkpoint already; pass resume=True to resume it, remove it, or "
            "choose another folder"
        )
    latest = _latest_version(folder) or 0
    for version in (latest, latest + 1):  # of which a killed run may have written one; this one may not
        remove_strays(folder / f"{_VERSION}{version}")


def save_checkpoint(
    folder: Path, identity: dict[str, Any], state: dict[str, Any], sharding: RowSharding = WHOLE
) -> None:
    """Write ``state`` as the newest version in ``folder``, which is created, and remove older ones.

    ``identity`` is what the run is (sizes, options, optimizer, data); one that resumes must have the same.
    ``sharding`` of the `DTensor`s in the state, if there are any.

    Raises a `TypeError` where the state holds what a checkpoint cannot keep, and `OSError`.
    """
    tensors: dict[str, Tensor] = {}
    packed = pack({"identity": identity, "state": state}, "run", tensors)
    shared = {name: tensors.pop(name) for name in list(tensors) if is_dtensor(tensors[name])}
    is_first, version = sharding.rank == 0, folder / f"{_VERSION}{(_latest_version(folder) or 0) + 1}"
    with ExitStack() as stack:
        begun = sharding.together(lambda: stack.enter_context(atomic_folder(version)) if is_first else None)
        partial = sharding.broadcast(begun)
        assert partial is not None
        if shared:
            _write_shards(shared, partial)

        def finish() -> None:
            if not is_first:
                return
            write_tensors(tensors, partial / _TENSORS)
            record = {"format": _FORMAT, "run": packed, "shared": _forms(shared)}
            (partial / _STATE).write_text(json.dumps(record), "utf-8")
            write_sums(partial)
            stack.close()
            for number in _versions(folder):
                if f"{_VERSION}{number}" != version.name:
                    shutil.rmtree(folder / f"{_VERSION}{number}", ignore_errors=True)

        sharding.together(finish)


def load_checkpoint(folder: Path, identity: dict[str, Any], sharding: RowSharding = WHOLE) -> dict[str, Any]:
    """Return the state of the newest version in ``folder``.

    Raises a `ValueError` where there is none, where it is damaged, or where it belongs to a run with another
    ``identity``; the message names the first difference.
    """
    version = sharding.broadcast(_latest_version(folder))
    if version is None:
        raise ValueError(f"{folder} holds no checkpoint; start without resume")
    path = folder / f"{_VERSION}{version}"
    kind, advice = "a checkpoint", f"remove {printable(str(folder))} and start anew"

    def read() -> tuple[dict[str, Any], dict[str, Tensor]]:
        with reading(path, kind, advice):
            check_sums(path, (_STATE, _TENSORS))
            record = read_record(path / _STATE, dict[str, Any])
            if record["format"] != _FORMAT:
                raise ValueError("it was written by another version of dmf_fast")
            shards = sorted(set(read_sums(path)) - {_STATE, _TENSORS})
            check_sums(path, shards[sharding.rank :: sharding.size])  # each process looks at some
            return record, load_file(path / _TENSORS)

    record, tensors = sharding.together(read)
    with reading(path, kind, advice):
        tensors |= _read_shards(path, record["shared"], sharding)
        run = unpack(record["run"], tensors)
        saved, state = run["identity"], run["state"]
        if not isinstance(saved, dict) or not isinstance(state, dict):
            raise TypeError("identity and state must be dictionaries")
    _check_identity(folder, saved, identity)
    return state


def _forms(shared: dict[str, Any]) -> dict[str, Any]:
    """Return dtype, shape and the dimension that is sharded, if any, of every tensor that processes share."""
    return {
        name: [str(one.dtype).removeprefix("torch."), list(one.shape), sharded_dimension(one)]
        for name, one in shared.items()
    }


def _write_shards(shared: dict[str, Tensor], folder: Path) -> None:
    """Write what this process has of the tensors, with the others; `OSError` where one of them cannot."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(dict(shared), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        failures = [str(failure[0]) for failure in error.failures.values()]
        raise OSError(f"{folder} cannot be written: {'; '.join(failures)}") from error


def _read_shards(folder: Path, forms: dict[str, Any], sharding: RowSharding) -> dict[str, Tensor]:
    """Return what this process is to have of the tensors that processes have shared."""
    if not forms:
        return {}
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    shared = {
        name: sharding.empty(tuple(shape), getattr(torch, dtype), dimension)
        for name, (dtype, shape, dimension) in forms.items()
    }
    reader = HuggingFaceStorageReader(str(folder))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # which a process alone is
            load(shared, storage_reader=reader, no_dist=sharding.mesh is None)
    except CheckpointException as error:
        raise ValueError("; ".join(str(failure[0]) for failure in error.failures.values())) from error
    return shared


def _check_identity(folder: Path, saved: dict[str, Any], given: dict[str, Any]) -> None:
    difference = first_difference(saved, given)
    if difference is not None:
        raise ValueError(
            f"the checkpoint in {printable(str(folder))} belongs to another run: {difference}; "
            "resume with the same, or choose another folder"
        )


def _latest_version(folder: Path) -> int | None:
    return max(_versions(folder), default=None)


def _versions(folder: Path) -> list[int]:
    """Return the numbers of all versions; what else has such a name is somebody else's."""
    if not folder.is_dir():
        return []
    numbers = (path.name.removeprefix(_VERSION) for path in folder.glob(f"{_VERSION}*"))
    return [int(number) for number in numbers if _NUMBER.fullmatch(number)]
