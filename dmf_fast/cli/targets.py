"""Checks of paths: nothing is replaced unless asked for, inputs never are; one input is standard input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dmf_fast.checks import printable
from dmf_fast.data.sources import STANDARD_INPUT
from dmf_fast.files.atomic import place_of


def check_target(
    out: Path, suffixes: tuple[str, ...], inputs: Mapping[str, Path | None], *, overwrite: bool
) -> None:
    """Raise a `ValueError` if a file may not be written, before any work is done.

    ``inputs``: paths that the command reads, by the names of its arguments.
    """
    shown = printable(out)
    if out.suffix not in suffixes:
        raise ValueError(f"{shown!r} must end in {' or '.join(suffixes)}; name such a file")
    place = place_of(out)
    if place.exists() and not overwrite:
        raise ValueError(f"{shown} exists; name another file or pass --overwrite")
    if place.exists() and place.is_dir() != (out.suffix == ".parquet" and ".npz" in suffixes):
        raise ValueError(f"{shown} is a folder where a file is written, or the reverse; name another path")
    if not place.parent.is_dir():
        raise ValueError(f"{shown}: the folder {printable(out.parent)} does not exist; create it first")
    check_utf8("The file to write", out)
    check_apart(shown, out, inputs)


def check_utf8(name: str, path: Path) -> None:
    """Raise a `ValueError` if a path to write is not UTF-8, as pyarrow, safetensors and DuckDB require."""
    place = str(place_of(path))
    try:
        place.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{name} must be a path in UTF-8, got {printable(place)}; name another place"
        ) from None


def check_standard_input(inputs: Mapping[str, Path | None]) -> None:
    """Raise a `ValueError` if several ``inputs``, by the names of their arguments, are standard input."""
    readers = [name for name, path in inputs.items() if str(path) == STANDARD_INPUT]
    if len(readers) > 1:
        raise ValueError(
            f"Only one input can be standard input, got {' and '.join(readers)}; name files for the others"
        )


def check_apart(
    name: str, out: Path, inputs: Mapping[str, Path | None], *, may_lie_in_them: bool = False
) -> None:
    """Raise a `ValueError` if ``out`` is, contains or lies in one of the ``inputs``, with links resolved."""
    place = place_of(out)
    for called, path in inputs.items():
        if path is None:
            continue
        there = place_of(path)
        lies_in = there in place.parents and there.is_dir() and not may_lie_in_them
        if there == place or place in there.parents or lies_in:
            relation = "lies in" if lies_in else "is" if there == place else "contains"
            raise ValueError(f"{name} {relation} {called}, {printable(path)}; name another place")
