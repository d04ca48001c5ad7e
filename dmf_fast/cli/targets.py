"""Checks of output paths: nothing is replaced unless asked for, and inputs never are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dmf_fast.checks import printable
from dmf_fast.files.atomic import place_of


def check_target(
    out: Path, suffixes: tuple[str, ...], inputs: Mapping[str, Path | None], *, overwrite: bool
) -> None:
    """Raise a `ValueError` if a file may not be written, before any work is done.

    ``inputs``: paths that the command reads, by the names of its arguments.
    """
    shown = printable(str(out))
    if out.suffix not in suffixes:
        raise ValueError(f"{shown!r} must end in {' or '.join(suffixes)}; name such a file")
    place = place_of(out)
    if place.exists() and not overwrite:
        raise ValueError(f"{shown} exists; name another file or pass --overwrite")
    if place.exists() and place.is_dir() != (out.suffix == ".parquet" and ".npz" in suffixes):
        raise ValueError(f"{shown} is a folder where a file is written, or the reverse; name another path")
    if not place.parent.is_dir():
        raise ValueError(f"{shown}: the folder {printable(str(out.parent))} does not exist; create it first")
    check_apart(shown, out, inputs)


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
            raise ValueError(f"{name} {relation} {called}, {printable(str(path))}; name another place")
