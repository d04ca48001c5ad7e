"""Tensors in a safetensors file that says what it holds, and by a digest whether it still holds that."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dmf_fast.files.atomic import atomic_file, read_whole
from dmf_fast.files.identity import bytes_of, sha256_of
from dmf_fast.files.reading import record_of

_LABEL = "dmf_fast"
# Their names in a safetensors file, where those of a later kind come first, and those of one by name: all
# numbers then lie at multiples of their width.
_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
_KINDS = list(_NAMES)


class Chunks(NamedTuple):
    """A tensor that nobody needs to hold at once: its parts along the first dimension, in their order."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: Iterable[Tensor]


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
    whole = {name: Chunks(one.dtype, tuple(one.shape), (one,)) for name, one in tensors.items()}
    save_chunks(whole, path, kind, facts)


def save_chunks(tensors: Mapping[str, Chunks], path: Path, kind: str, facts: str = "") -> None:
    """Write what `save_tensors` writes, from tensors that come in parts; a part is in memory at a time.

    The parts are asked for in the order of `in_file_order`.

    Raises:
        OSError: the file cannot be written.
        ValueError: the parts of a tensor are not of its dtype, or not as many numbers as it has.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts = (torch.full((1,), number) for number in (1.0, 2.0))
        ...     save_chunks({"two": Chunks(torch.float32, (2,), parts)}, Path(folder, "numbers"), "example")
        ...     load_tensors(Path(folder, "numbers"), "example")
        ({'two': tensor([1., 2.])}, '')

    """
    sums: dict[str, _Sum] = {}
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(_head_of(tensors, _Label(kind, facts, hashlib.sha256().hexdigest())))
        for name in in_file_order(tensors):
            dtype, shape, parts = tensors[name]
            digest, missing = hashlib.sha256(), math.prod(shape)
            for part in parts:
                if part.dtype != dtype:
                    raise ValueError(f"parts of {name!r} must be of {dtype}, got {part.dtype}")
                content = bytes_of(part)
                digest.update(content)
                file.write(content)
                missing -= part.numel()
            if missing:
                raise ValueError(f"parts of {name!r} must have {math.prod(shape)} numbers, {missing} lack")
            sums[name] = _Sum(dtype, shape, digest.hexdigest())
        file.seek(0)  # of the same length
        file.write(_head_of(tensors, _Label(kind, facts, _digest_of(sums, kind, facts))))


def in_file_order(tensors: Mapping[str, Chunks]) -> list[str]:
    """Return the names of tensors in the order in which they stand in a safetensors file.

    >>> in_file_order({"a": Chunks(torch.int8, (), ()), "b": Chunks(torch.int64, (), ())})
    ['b', 'a']
    """
    return sorted(tensors, key=lambda name: (-_KINDS.index(tensors[name].dtype), name))


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


class _Sum(NamedTuple):
    """A tensor and the SHA-256 of its numbers."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    sha256: str


def _digest(tensors: Mapping[str, Tensor], kind: str, facts: str) -> str:
    sums = {name: _Sum(one.dtype, tuple(one.shape), sha256_of(one)) for name, one in tensors.items()}
    return _digest_of(sums, kind, facts)


def _digest_of(sums: Mapping[str, _Sum], kind: str, facts: str) -> str:
    digest = hashlib.sha256(repr((kind, facts)).encode())
    for name, (dtype, shape, sha256) in sorted(sums.items()):
        digest.update(repr((name, str(dtype), shape)).encode())
        digest.update(bytes.fromhex(sha256))
    return digest.hexdigest()


def _head_of(tensors: Mapping[str, Chunks], label: _Label) -> bytes:
    """Return how a safetensors file begins: the length of its header, then where each tensor stands."""
    # One entry: safetensors writes several in an order that changes from time to time.
    header: dict[str, object] = {"__metadata__": {_LABEL: json.dumps(msgspec.to_builtins(label))}}
    end = 0
    for name in in_file_order(tensors):
        dtype, shape, _ = tensors[name]
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _os_error(error: SafetensorError, path: Path) -> OSError:
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None:
        return OSError(errno.EIO, str(error), str(path))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))
