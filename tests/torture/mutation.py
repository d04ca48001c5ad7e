"""Valid files made hostile: bytes, and what stands inside archives, arrays, tensors, records and tables."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import pyarrow as pa

Files = dict[str, bytes]
"""The files of one input, by their names below its folder."""

LONGEST = 900_000
WHOLE_NUMBERS = (
    0, -1, 1, 2, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53 + 1, 2**62,
    2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**31), -(2**63), -(2**63) - 1, 10**30,
)  # fmt: skip
NUMBERS = (
    *map(str, WHOLE_NUMBERS), "nan", "-nan", "inf", "-inf", "1e999", "-0.0", "1e-400", "1e5", "1.", ".5",
    "0x10", "1_0", "007", "+7", "1,5", "٣", "½", "1" * 400, "--1", "1e", "1 2", "True", "null", "",
)  # fmt: skip
WORDS = (
    '"', "'", "\0", "\ufeff", "\x1a", "\x1b[31m", "\u2028", "\x85", ",", ";", "::", "|", "\t", " ", "\r",
    "\n", "\r\n", "\\", "#", "%", "%%MatrixMarket matrix array complex hermitian\n", "pattern", "complex",
    "symmetric", "skew-symmetric", "hermitian", "array", "coordinate", "unsigned-integer", "user_id:token",
    "user,item,rating", "1:\n", ":", "2005-09-06", "&a", "*a", "<<: *a", "!!python/object/apply:os.abort []",
    "!!binary x", "? ", "- ", "{", "[", "}", "]", "---\n", "[[a]]\n", "é", "名", "\U0001f600", "a" * 5000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, *WHOLE_NUMBERS, 0.5, -0.5, 1e308, float("nan"), float("inf"), "", "x", "\0",
    "\x1b[31m", "float64", "cpu", "../../x", "/", [], {}, [[]], [None], {"": None}, "x" * 10_000, [0] * 1000,
)  # fmt: skip
DTYPES = (
    "<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "<u8", "|b1", ">i8", "<c16", "|O", "<U5", "|S3", "|V8",
    "<M8[s]", "F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "float16", "int8",
)  # fmt: skip


def mutated(random: Random, files: Files, others: Sequence[Files]) -> Files:
    """Return an input that differs from a valid one in one to five places."""
    files = dict(files)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
        name = random.choice(sorted(files))
        donor = random.choice(others)
        content = donor[name] if name in donor else random.choice(sorted(donor.values()))
        changed = content_mutated(random, files[name], content, name)
        files[name] = changed if len(changed) <= LONGEST else files[name]
        if len(files) > 1 and random.random() < 0.03:
            del files[name]
    return files


def content_mutated(random: Random, content: bytes, donor: bytes, name: str = "") -> bytes:
    """Return the content of a file changed in one place, most often inside its structure."""
    if name.endswith(".call"):  # a call or a table that is described in JSON, which stays JSON
        return json.dumps(json_changed(random, json.loads(content))).encode()
    if random.random() < 0.75:
        try:
            return _structure(name, content)(random, content)
        except Exception:  # an earlier change has damaged the structure
            return _bytes_mutated(random, content, donor)
    return _bytes_mutated(random, content, donor)


def _structure(name: str, content: bytes) -> Callable[[Random, bytes], bytes]:
    for magic, change in _BY_MAGIC.items():
        if content.startswith(magic):
            return change
    if content[8:9] == b"{" and len(content) > 8:
        return _safetensors_mutated
    if name.endswith(".json"):
        return _json_mutated
    if b"\0" in content or content.startswith((b"PAR1", b"ARROW1")):
        return _numbers_in_bytes
    return _text_mutated


def _bytes_mutated(random: Random, content: bytes, donor: bytes) -> bytes:
    data = bytearray(content)
    start = random.randrange(len(data) + 1)
    size = min(random.choice((1, 1, 2, 4, 8, 16, 64, 512)), len(data) - start)
    way = random.randrange(9)
    if way == 0 and data:
        data[min(start, len(data) - 1)] ^= 1 << random.randrange(8)
    elif way == 1:
        data[start : start + size] = random.randbytes(size)
    elif way == 2:
        del data[start : start + size]
    elif way == 3:
        del data[start:]
    elif way == 4:
        data[start:start] = data[start : start + size] * random.choice((1, 1, 2, 50))
    elif way == 5:
        data[start : start + size] = bytes(size)
    elif way == 6:
        cut = random.randrange(len(donor) + 1)
        data[start:] = donor[cut:]
    elif way == 7:
        data[start:start] = random.choice(WORDS).encode()
    else:
        return _numbers_in_bytes(random, bytes(data))
    return bytes(data)


def _numbers_in_bytes(random: Random, content: bytes) -> bytes:
    """Put a number of 1 to 8 bytes where another one may stand."""
    width = random.choice((1, 2, 4, 4, 8, 8))
    places = len(content) // width
    if not places:
        return content + b"\xff"
    start = random.randrange(places) * width
    if width == 8 and random.random() < 0.3:
        number = struct.pack("<d", random.choice((float("nan"), float("inf"), -1.0, 1e300, 0.0)))
    else:
        number = (random.choice(WHOLE_NUMBERS) % 256**width).to_bytes(width, "little")
    return content[:start] + number + content[start + width :]


def _text_mutated(random: Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "surrogateescape")
    lines = text.splitlines(keepends=True) or [""]
    at, way = random.randrange(len(lines)), random.randrange(9)
    if way == 0:
        lines.insert(at, lines[random.randrange(len(lines))])
    elif way == 1:
        del lines[at]
    elif way == 2:
        random.shuffle(lines)
    elif way == 3:
        parts = re.split(r"([,;\t |:]+)", lines[at])
        parts[random.randrange(len(parts))] = random.choice((*NUMBERS, *WORDS))
        lines[at] = "".join(parts)
    elif way == 4:
        old, new = (random.choice((",", ";", "\t", "::", "|", " ", '"', "\n", ": ")) for _ in range(2))
        return text.replace(old, new).encode("utf-8", "surrogateescape")
    elif way == 5:
        return text.encode(random.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp1252")), "replace")
    elif way == 6:
        return (text * random.choice((2, 2, 2, 5, 20, 300)))[:LONGEST].encode("utf-8", "surrogateescape")
    elif way == 7:
        place = random.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:place] + random.choice(WORDS) + lines[at][place:]
    else:
        numbers = list(re.finditer(r"-?\d+\.?\d*", text))
        if numbers:
            one = random.choice(numbers)
            text = text[: one.start()] + random.choice(NUMBERS) + text[one.end() :]
        return text.encode("utf-8", "surrogateescape")
    return "".join(lines).encode("utf-8", "surrogateescape")


def _json_mutated(random: Random, content: bytes) -> bytes:
    if random.random() < 0.02:
        return random.choice((b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000, b"null", b"[]", b"{}", b'""'))
    changed = json.dumps(json_changed(random, json.loads(content)))
    if random.random() < 0.03:
        changed = changed.replace("}", f', "format": {random.choice(NUMBERS)}}}', 1)
    return changed.encode()


def json_changed(random: Random, value: Any) -> Any:
    """Return a value of JSON with one part of it changed, of another type or range, or gone."""
    root = [value]
    places = _places(root)
    container, key = random.choice(places)
    old, way = container[key], random.randrange(8)
    if isinstance(old, str) and old.startswith("{") and random.random() < 0.7:
        with suppress(ValueError):  # JSON in a text
            container[key] = json.dumps(json_changed(random, json.loads(old)))
    elif way <= 2:
        container[key] = random.choice(VALUES)
    elif way == 3 and isinstance(old, (int, float)) and not isinstance(old, bool):
        container[key] = random.choice((old + 1, old - 1, -old, old * 2, 1e3 * old, str(old), float(old)))
    elif way == 4 and container is not root:
        del container[key]
    elif way == 5:
        other, place = random.choice(places)
        container[key] = json.loads(json.dumps(other[place]))
    elif way == 6:
        container[key] = [old] * random.choice((1, 2, 100))
    elif isinstance(old, str):
        container[key] = random.choice((*DTYPES, *NUMBERS, *WORDS))
    elif isinstance(old, list):
        old.append(random.choice(VALUES))
    elif isinstance(old, dict):
        old[random.choice(("x", *old))] = random.choice(VALUES)
    else:
        container[key] = random.choice(VALUES)
    return root[0]


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting:
        container = waiting.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            places.append((container, key))
            if isinstance(container[key], (dict, list)):
                waiting.append(container[key])
    return places


def _zip_mutated(random: Random, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at, other = random.randrange(len(members)), random.randrange(len(members))
    (name, data), way = members[at], random.randrange(8)
    if way <= 3:
        members[at] = name, content_mutated(random, data, members[other][1], name)
    elif way == 4:
        del members[at]
    elif way == 5:
        members[at], members[other] = (name, members[other][1]), (members[other][0], data)
    elif way == 6:
        members.append((name, data))
    else:
        members[at] = (
            random.choice((*WORDS, name + ".gz", "a.csv", "../a.csv", "a/", "ratings.csv.bak")),
            data,
        )
    how = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    if random.random() < 0.05:  # slow ones
        how = random.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", how) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), data, how)
    return changed.getvalue()


def _npy_mutated(random: Random, content: bytes) -> bytes:
    (size,) = struct.unpack("<H", content[8:10])
    header, data = content[10 : 10 + size].decode("latin-1"), content[10 + size :]
    way = random.randrange(6)
    if way == 0:
        header = re.sub(r"'descr': '[^']*'", f"'descr': '{random.choice(DTYPES)}'", header)
    elif way == 1:
        header = re.sub(
            r"\(([^)]*)\)", f"({random.choice(NUMBERS)}, {random.choice(('', '2', '0'))})", header
        )
    elif way == 2:
        header = _text_mutated(random, header.encode()).decode("latin-1")[:60_000]
    elif way == 3:
        data = data[: random.randrange(len(data) + 1)]
    else:
        data = _numbers_in_bytes(random, data)
    return content[:8] + struct.pack("<H", len(header)) + header.encode("latin-1", "replace") + data


def _safetensors_mutated(random: Random, content: bytes) -> bytes:
    (size,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + size], content[8 + size :]
    if random.random() < 0.5:
        header = json.dumps(json_changed(random, json.loads(header))).encode()
        header += b" " * (-len(header) % 8)
    else:
        data = _numbers_in_bytes(random, data)
    return struct.pack("<Q", len(header)) + header + data


def _zstd_decompressed(content: bytes) -> bytes:
    return bytes(pa.CompressedInputStream(pa.BufferReader(content), "zstd").read())


def _zstd_compressed(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def _inside(
    decompressed: Callable[[bytes], bytes], compressed: Callable[[bytes], bytes]
) -> Callable[[Random, bytes], bytes]:
    def change(random: Random, content: bytes) -> bytes:
        inside = decompressed(content)
        return compressed(content_mutated(random, inside, inside))

    return change


_BY_MAGIC: dict[bytes, Callable[[Random, bytes], bytes]] = {
    b"PK\x03\x04": _zip_mutated,
    b"\x93NUMPY": _npy_mutated,
    b"\x1f\x8b": _inside(gzip.decompress, gzip.compress),
    b"BZh": _inside(bz2.decompress, bz2.compress),
    b"\xfd7zXZ": _inside(lzma.decompress, partial(lzma.compress, preset=0)),
    b"\x28\xb5\x2f\xfd": _inside(_zstd_decompressed, _zstd_compressed),
}
