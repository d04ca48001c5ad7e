"""Texts that are never there in part, and results as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dmf_fast.files.atomic import atomic_file


def json_text(value: Any) -> str:
    """Return dictionaries, sequences, text and numbers as JSON, null for NaN and infinite numbers.

    JSON knows neither; Python's own module would write what other readers refuse.

    >>> json_text([1, float("nan")]).split()
    ['[', '1,', 'null', ']']
    """
    return json.dumps(_without_nan(value), indent=2, allow_nan=False)


def write_whole(path: Path, text: str) -> None:
    """Write a file, as UTF-8, into its place at once; see `atomic_file`."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
