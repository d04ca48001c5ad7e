"""The smallest input that fails the same way, by leaving out and zeroing what is not needed."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.torture.mutation import Files

MOST_SECONDS = 10.0


def minimal(files: Files, fails: Callable[[Files], bool], seconds: float = MOST_SECONDS) -> Files:
    """Return files of which no part can be left out, as far as the time goes.

    >>> minimal({"a": b"1,2,x,4", "b": b"..."}, lambda files: b"x" in files.get("a", b""))
    {'a': b'x'}
    """
    ends = time.monotonic() + seconds
    for name in sorted(files):
        without = {other: content for other, content in files.items() if other != name}
        if without and fails(without):
            files = without
    for name in sorted(files):
        for shorter in (_without, _with_zeros):
            size = max(1, len(files[name]) // 2)
            while size:
                start = 0
                while start < len(files[name]) and time.monotonic() < ends:
                    content = shorter(files[name], start, size)
                    if content != files[name] and fails(files | {name: content}):
                        files = files | {name: content}
                        start += size if shorter is _with_zeros else 0
                    else:
                        start += size
                size //= 2
    return files


def _without(content: bytes, start: int, size: int) -> bytes:
    return content[:start] + content[start + size :]


def _with_zeros(content: bytes, start: int, size: int) -> bytes:
    cut = content[start : start + size]
    return content[:start] + (b"0" if content.isascii() else b"\0") * len(cut) + content[start + size :]
