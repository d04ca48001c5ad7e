"""Tensors in safetensors files with a label of their contents and a digest."""

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
# Their names in a safetensors file. Tensors of a later dtype come first, those of the same dtype by name, so
# that all numbers are aligned to their width.
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
    """A tensor given by its parts along the first dimension, in order, so that it need not fit in memory."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: Iterable[Tensor]


def save_tensors(tensors: Mapping[str, Tensor], path: Path, kind: str, facts: str = "") -> None:
    """Write contiguous tensors and a text about them atomically.

    Args:
        tensors: tensors by name; no two may share memory.
        path: see `atomic_file`.
        kind: the kind of contents, which `load_tensors` checks.
        facts: further information, such as JSON.

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
    """Write the same file as `save_tensors` from tensors in parts, with one part in memory at a time.

    The parts are requested in the order of `in_file_order`.

    Raises:
        OSError: the file cannot be written.
        ValueError: the parts of a tensor do not have its dtype or its number of elements.

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
                raise ValueError(
                    f"parts of {name!r} must have {math.prod(shape)} numbers, got "
                    f"{math.prod(shape) - missing}"
                )
            sums[name] = _Sum(dtype, shape, digest.hexdigest())
        file.seek(0)  # the final header has the same length
        file.write(_head_of(tensors, _Label(kind, facts, _digest_of(sums, kind, facts))))


def in_file_order(tensors: Mapping[str, Chunks]) -> list[str]:
    """Return the names of tensors in the order of a safetensors file.

    >>> in_file_order({"a": Chunks(torch.int8, (), ()), "b": Chunks(torch.int64, (), ())})
    ['b', 'a']
    """
    return sorted(tensors, key=lambda name: (-_KINDS.index(tensors[name].dtype), name))


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file into a folder that is about to be published.

    Raises an `OSError` if it cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:
        raise _os_error(error, path) from error
    path.chmod(mode)  # safetensors makes its files readable only by the owner


def load_tensors(path: Path, kind: str, *, checked: bool = False) -> tuple[dict[str, Tensor], str]:
    """Return the tensors, memory-mapped, and the text that `save_tensors` wrote, from a single version.

    Args:
        path: the file.
        kind: the expected kind of contents.
        checked: whether the digest has already been verified, which takes one second per gigabyte.

    Raises:
        OSError, ValueError, SafetensorError: the file cannot be read, is of another kind, or is damaged;
            `reading` converts these to one error.

    """
    # safetensors opens the file twice, for the names and for the data.
    return read_whole(path, lambda: _read(path, kind, checked=checked))


def _read(path: Path, kind: str, *, checked: bool) -> tuple[dict[str, Tensor], str]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if _LABEL not in metadata:
            raise ValueError("it has no label of its contents")
        label = record_of(metadata[_LABEL], _Label)
        if label.kind != kind:
            raise ValueError(f"it holds {label.kind!r} instead of {kind!r}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not checked and label.sha256 != _digest(tensors, kind, label.facts):
        raise ValueError("its contents do not match its SHA-256")
    if not checked and not _header(path).rstrip(b" ").endswith(b"}"):  # the digest does not cover its end
        raise ValueError("its header is not as it was written")
    return tensors, label.facts


def _header(path: Path) -> bytes:
    """Return the header of a valid file."""
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


class _Label(msgspec.Struct, forbid_unknown_fields=True):
    """The metadata of a file."""

    kind: str
    facts: str
    sha256: str


class _Sum(NamedTuple):
    """Dtype, shape and SHA-256 of a tensor."""

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
    """Return the head of a safetensors file: the length of its header, and the header with all offsets."""
    # A single entry, since safetensors writes several in varying order.
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
