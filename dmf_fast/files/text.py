"""Atomic writing of text, and JSON of results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dmf_fast.files.atomic import atomic_file


def json_text(value: Any) -> str:
    """Return dictionaries, sequences, strings and numbers as JSON, with null for NaN and infinity.

    JSON supports neither; the `json` module would write tokens that other readers reject.

    >>> json_text([1, float("nan")]).split()
    ['[', '1,', 'null', ']']
    """
    return json.dumps(_without_nan(value), indent=2, allow_nan=False)


def write_whole(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically; see `atomic_file`."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
