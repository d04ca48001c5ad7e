"""Tensors in a safetensors file that says what it holds, and by a digest whether it still holds that."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dmf_fast.files.atomic import atomic_file, read_whole
from dmf_fast.files.identity import sha256_of
from dmf_fast.files.reading import record_of

_LABEL = "dmf_fast"


def save_tensors(tensors: Mapping[str, Tensor], path: Path, kind: str, facts: str = "") -> None:
    """Write tensors, contiguous ones, with a text about them; the file appears when it is whole.

    Args:
        tensors: by their names; no two share memory.
        path: see `atomic_file`.
        kind: what they are, which `load_tensors` asks for.
        facts: what else is known, such as JSON.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_tensors({"ones": torch.ones(2)}, Path(folder, "numbers"), "example", "two of them")
        ...     load_tensors(Path(folder, "numbers"), "example")
        ({'ones': tensor([1., 1.])}, 'two of them')

    """
    label = _Label(kind, facts, _digest(tensors, kind, facts))
    # One entry: safetensors writes several in an order that changes from time to time.
    metadata = {_LABEL: json.dumps(msgspec.to_builtins(label))}
    with atomic_file(path) as partial:
        write_tensors(tensors, partial, metadata)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file of a folder that is about to be published.

    Raises `OSError` where it cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:
        raise _os_error(error, path) from error
    path.chmod(mode)  # safetensors lets nobody else read its files


def load_tensors(path: Path, kind: str, *, checked: bool = False) -> tuple[dict[str, Tensor], str]:
    """Return the tensors that `save_tensors` wrote, mapped, and the text: all of one file, old or new.

    Args:
        path: the file.
        kind: what it must hold.
        checked: whether the file has been compared with a digest already, which takes a second a gigabyte.

    Raises:
        OSError, ValueError, SafetensorError: it cannot be read, is of another kind, or damaged: `reading`
            makes one error of them.

    """
    # safetensors opens the file twice, for the names and for the numbers.
    return read_whole(path, lambda: _read(path, kind, checked=checked))


def _read(path: Path, kind: str, *, checked: bool) -> tuple[dict[str, Tensor], str]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if _LABEL not in metadata:
            raise ValueError("it does not say what it holds")
        label = record_of(metadata[_LABEL], _Label)
        if label.kind != kind:
            raise ValueError(f"it holds {label.kind!r} instead of {kind!r}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not checked and label.sha256 != _digest(tensors, kind, label.facts):
        raise ValueError("its contents do not match its SHA-256")
    if not checked and not _header(path).rstrip(b" ").endswith(b"}"):  # no digest sees its end
        raise ValueError("its header is not as it was written")
    return tensors, label.facts


def _header(path: Path) -> bytes:
    """Return the header of a file that has been opened as a whole one."""
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


class _Label(msgspec.Struct, forbid_unknown_fields=True):
    """What the file says besides its tensors."""

    kind: str
    facts: str
    sha256: str


def _digest(tensors: Mapping[str, Tensor], kind: str, facts: str) -> str:
    digest = hashlib.sha256(repr((kind, facts)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(bytes.fromhex(sha256_of(tensor)))
    return digest.hexdigest()


def _os_error(error: SafetensorError, path: Path) -> OSError:
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None:
        return OSError(errno.EIO, str(error), str(path))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))
