"""Records in JSON files with a digest, so that damage is detected."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dmf_fast.files.atomic import atomic_file
from dmf_fast.files.reading import Record, record_of

_HEAD, _TAIL = '{{"sha256": "{}",\n"record": ', "}\n"


def save_record(path: Path, record: Any) -> None:
    """Write JSON values atomically.

    Raises an `OSError` if the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_record(Path(folder, "steps"), {"steps": 3})
    ...     load_record(Path(folder, "steps"), dict[str, int])
    {'steps': 3}
    """
    text = json.dumps(record, indent=1)
    with atomic_file(path) as partial:
        partial.write_text(_head(text) + text + _TAIL, encoding="utf-8")


def load_record(path: Path, kind: type[Record]) -> Record:
    """Return what `save_record` wrote, as a ``kind``; see `record_of`.

    Raises an `OSError`, or a `ValueError` or another error if the file is damaged; see `reading`.
    """
    content = path.read_text(encoding="utf-8")
    text = content[len(_head("")) : -len(_TAIL)]
    if content != _head(text) + text + _TAIL:
        raise ValueError("its contents do not match its SHA-256")
    return record_of(text, kind)


def _head(text: str) -> str:
    return _HEAD.format(hashlib.sha256(text.encode()).hexdigest())
