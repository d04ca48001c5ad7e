"""Records in a JSON file that has a digest of them: what is damaged is not read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dmf_fast.files.atomic import atomic_file
from dmf_fast.files.reading import Record, record_of

_HEAD, _TAIL = '{{"sha256": "{}",\n"record": ', "}\n"


def save_record(path: Path, record: Any) -> None:
    """Write what JSON can hold; the file appears when it is whole.

    Raises `OSError` where it cannot be written.

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

    Raises `OSError`, or a `ValueError` or what else Python raises where the file is damaged; see `reading`.
    """
    content = path.read_text(encoding="utf-8")
    text = content[len(_head("")) : -len(_TAIL)]
    if content != _head(text) + text + _TAIL:
        raise ValueError("its contents do not match its SHA-256")
    return record_of(text, kind)


def _head(text: str) -> str:
    return _HEAD.format(hashlib.sha256(text.encode()).hexdigest())
