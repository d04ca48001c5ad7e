"""An interrupted save, and what must hold: the old result or the new one, and no leftover files."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.torture.children import Child, run_in_child
from tests.torture.saves import Save, copied


@dataclass(frozen=True)
class Undisturbed:
    """A save that nothing has harmed.

    Attributes:
        start: the folder with the old result, to be copied.
        old: what is there before; see `Save.look`.
        new: what is there after it.
        names: of all files then.
        seconds: that it takes.

    """

    start: Path
    old: object
    new: object
    names: list[str]
    seconds: float


def undisturbed(save: Save, scratch: Path) -> Undisturbed:
    """Make the old result, and the new one in a copy."""
    start, whole, kept = scratch / "start", scratch / "whole", scratch / "kept"
    start.mkdir(parents=True)

    def make() -> None:
        save.before(start)
        old = save.look(start)
        copied(start, whole)
        began = time.monotonic()
        save.save(whole)
        seconds = time.monotonic() - began
        new = save.look(whole)
        assert new is not None
        assert new != old
        kept.write_bytes(pickle.dumps(Undisturbed(start, old, new, save.names(whole), seconds)))

    run_in_child(make)
    result: Undisturbed = pickle.loads(kept.read_bytes())
    return result


def after_harm(save: Save, whole: Undisturbed, folder: Path) -> str | None:
    """Return what is wrong with what a harmed save has left; None where it is the old result or the new."""

    def check() -> None:
        found = save.look(folder)
        if found not in (whole.old, whole.new):
            raise AssertionError("it is neither the old result nor the new")

    return _fault("after it", check)


def after_going_on(save: Save, whole: Undisturbed, folder: Path) -> str | None:
    """Return what is wrong once the save has gone on to its end; None where nothing is."""

    def check() -> None:
        save.save(folder)
        if save.look(folder) != whole.new:
            raise AssertionError("it is not bitwise the new result")
        if save.names(folder) != whole.names:
            strays = sorted(set(save.names(folder)) ^ set(whole.names))
            raise AssertionError(f"there are other files: {strays[:3]}")

    return _fault("when it went on", check)


def _fault(when: str, check: Callable[[], None]) -> str | None:
    ending = Child(check).wait(120.0)
    if ending.crash:
        return f"{when}: {ending.crash}"
    if ending.code == 0:
        return None
    return f"{when}: {ending.output.strip().splitlines()[-1][:300]}"
