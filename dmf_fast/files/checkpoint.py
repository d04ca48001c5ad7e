"""Checkpoints, written atomically.

A checkpoint folder holds numbered versions, the highest of which is current::

    checkpoint/version-7/tensors.safetensors    model, best model, optimizer, random generators
                         state.json             everything that is not a tensor
                         shard-….safetensors    the shards of distributed tensors, one file per process
                         SHA256SUMS             digests of these files, for `sha256sum --check`
               lock                             held by the run that uses the folder

Older versions are removed only once a new one is complete and on disk. If processes share the rows of a run,
all of them call these functions and must be able to access the folder; `torch.distributed.checkpoint` writes
the shards, which any number of processes can read.
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
    """Return whether there is a checkpoint in ``folder``.

    >>> has_checkpoint(Path("no/such/folder"))
    False
    """
    return _latest_version(folder) is not None


@contextmanager
def held_folder(
    checkpoint: Path | str | None, *, every: int | None, resume: bool, sharding: RowSharding = WHOLE
) -> Iterator[Path | None]:
    """Lock the folder for checkpoints, so that no other run uses it, and yield it.

    If processes share the rows of a run, the first one holds the lock.

    Raises a `ValueError` if ``checkpoint`` is None although ``resume`` or ``every`` is given, if it is a
    file, if another run uses it, or if it holds a checkpoint although ``resume`` is False.

    >>> with held_folder(None, every=None, resume=False) as folder:
    ...     folder is None
    True
    """
    if checkpoint is None:
        if resume or every is not None:
            what = "resume" if resume else "checkpoint_every"
            raise ValueError(f"`checkpoint` must be a folder if `{what}` is given, got None")
        yield None
        return
    folder = Path(checkpoint)
    with ExitStack() as stack:
        sharding.together(lambda: None if sharding.rank else _hold(folder, resume, stack))
        yield folder


def _hold(folder: Path, resume: bool, stack: ExitStack) -> None:
    """Lock the folder until the stack is closed, and check that it can be used."""
    stack.enter_context(locked(folder))
    if not resume and has_checkpoint(folder):
        raise ValueError(
            f"{folder} already holds a checkpoint; pass resume=True to resume it, remove it, or "
            "choose another folder"
        )
    latest = _latest_version(folder) or 0
    for version in (latest, latest + 1):  # a killed run may have left parts of either
        remove_strays(folder / f"{_VERSION}{version}")


def save_checkpoint(
    folder: Path, identity: dict[str, Any], state: dict[str, Any], sharding: RowSharding = WHOLE
) -> None:
    """Write ``state`` as the newest version in ``folder``, which is created, and remove older ones.

    ``identity`` describes the run (sizes, options, optimizer, data); a run that resumes must have the same.
    ``sharding`` is that of the `DTensor`s in the state, if there are any.

    Raises a `TypeError` if the state holds values that a checkpoint cannot store, and an `OSError` if it
    cannot be written.
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

    Raises a `ValueError` if ``folder`` holds no state, or if the state is damaged or belongs to a run with
    another ``identity``; the message names the first difference.
    """
    version = sharding.broadcast(_latest_version(folder))
    if version is None:
        raise ValueError(f"{folder} holds no checkpoint; start without resume")
    path = folder / f"{_VERSION}{version}"
    kind, advice = "a checkpoint", f"remove {printable(folder)} and start again"

    def read() -> tuple[dict[str, Any], dict[str, Tensor]]:
        with reading(path, kind, advice):
            check_sums(path, (_STATE, _TENSORS))
            record = read_record(path / _STATE, dict[str, Any])
            if record["format"] != _FORMAT:
                raise ValueError("it was written by another version of dmf_fast")
            shards = sorted(set(read_sums(path)) - {_STATE, _TENSORS})
            check_sums(path, shards[sharding.rank :: sharding.size])  # each process checks some
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
    """Return dtype, shape and sharded dimension (or None) of each distributed tensor."""
    return {
        name: [str(one.dtype).removeprefix("torch."), list(one.shape), sharded_dimension(one)]
        for name, one in shared.items()
    }


def _write_shards(shared: dict[str, Tensor], folder: Path) -> None:
    """Write the shards of all processes, collectively; raise an `OSError` if one of them fails."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(dict(shared), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        failures = [str(failure[0]) for failure in error.failures.values()]
        raise OSError(f"{folder} cannot be written: {'; '.join(failures)}") from error


def _read_shards(folder: Path, forms: dict[str, Any], sharding: RowSharding) -> dict[str, Tensor]:
    """Read the distributed tensors, sharded over the present processes."""
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
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # true for a single process
            load(shared, storage_reader=reader, no_dist=sharding.mesh is None)
    except CheckpointException as error:
        raise ValueError("; ".join(str(failure[0]) for failure in error.failures.values())) from error
    return shared


def _check_identity(folder: Path, saved: dict[str, Any], given: dict[str, Any]) -> None:
    difference = first_difference(saved, given)
    if difference is not None:
        raise ValueError(
            f"the checkpoint in {printable(folder)} belongs to another run: {difference}; "
            "resume with the same, or choose another folder"
        )


def _latest_version(folder: Path) -> int | None:
    return max(_versions(folder), default=None)


def _versions(folder: Path) -> list[int]:
    """Return the numbers of all versions, ignoring other names."""
    if not folder.is_dir():
        return []
    numbers = (path.name.removeprefix(_VERSION) for path in folder.glob(f"{_VERSION}*"))
    return [int(number) for number in numbers if _NUMBER.fullmatch(number)]
