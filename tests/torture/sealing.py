"""Corrects the digests of changed files, so that the code behind the check is tested as well."""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import suppress

from safetensors.torch import load

from dmf_fast.files import records, tensors
from dmf_fast.files.digests import SUMS
from tests.torture.mutation import Files


def sealed(files: Files) -> Files:
    """Return files of this project with digests that fit: of tensors, of records, and of those in a folder.

    What is too damaged to have a digest stays as it is.
    """
    files = dict(files)
    for name, content in files.items():
        for seal in (_sealed_tensors, _sealed_record):
            with suppress(Exception):
                files[name] = seal(content)
    for name in [name for name in files if name.endswith(SUMS)]:
        folder = name.removesuffix(SUMS)
        inside = {
            other.removeprefix(folder): data for other, data in files.items() if other.startswith(folder)
        }
        files[name] = "".join(
            f"{hashlib.sha256(data).hexdigest()}  {other}\n"
            for other, data in sorted(inside.items())
            if "/" not in other and other != SUMS
        ).encode()
    return files


def _sealed_tensors(content: bytes) -> bytes:
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    label = json.loads(header["__metadata__"][tensors._LABEL])
    label["sha256"] = tensors._digest(load(content), label["kind"], label["facts"])
    header["__metadata__"][tensors._LABEL] = json.dumps(label)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def _sealed_record(content: bytes) -> bytes:
    text = json.dumps(json.loads(content)["record"])
    return (records._head(text) + text + records._TAIL).encode()
