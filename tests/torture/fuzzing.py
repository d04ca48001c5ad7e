"""Hostile inputs by the hundred thousand: each ends in a result or in the documented error.

Batches run in children. Before every try a child notes which input it takes, so that one that dies, hangs or
swells names the input; the next child goes on behind it. An input follows from the seed of the campaign and
from its number, so only numbers are passed on.
"""

from __future__ import annotations

import json
import mmap
import pickle
import re
import shutil
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.torture.children import Child, Ending, run_in_child
from tests.torture.findings import Findings
from tests.torture.minimizing import minimal
from tests.torture.mutation import Files, mutated
from tests.torture.sealing import sealed

TRIES_A_CHILD = 5000
LONGEST_SENTENCE = 1000
MOST_MINIMIZED = 6


class NotAnInput(Exception):
    """A description of a call or of a table that describes none."""


class BadEnding(Exception):
    """What read an input ended in another way than a result or a sentence; the message says how."""


@dataclass(frozen=True)
class Target:
    """What reads files.

    Attributes:
        name: of the target.
        seeds: makes valid inputs, below a scratch folder.
        use: reads an input in a folder; what it returns says what was read.
        errors: what it may raise.
        names_file: whether an error must name the file or its folder.
        ours: whether these are files of this project, whose damage must be noticed or have no effect; half of
            the inputs are `sealed`, so that what is behind the digests is tried as well.
        share: of the time, compared with others.

    """

    name: str
    seeds: Callable[[Path], list[Files]]
    use: Callable[[Path], object]
    errors: tuple[type[BaseException], ...] = (ValueError, OSError, MemoryError)
    names_file: bool = True
    ours: bool = False
    share: float = 1.0


@dataclass(frozen=True)
class Seeds:
    """Valid inputs, and what is read of each."""

    inputs: list[Files]
    results: list[object]

    def input(self, target: Target, seed: str, number: int) -> tuple[Files, bool]:
        """Return the input of a number, and whether it is sealed."""
        random = Random(f"{seed} {target.name} {number}")
        files = mutated(random, random.choice(self.inputs), self.inputs)
        if target.ours and random.random() < 0.5:
            return sealed(files), True
        return files, False


def fuzz(target: Target, seed: str, seconds: float, scratch: Path) -> Findings:
    """Try inputs for so many seconds."""
    seeds = seeds_of(target, scratch)
    findings, ends = Findings(f"fuzz {target.name}"), time.monotonic() + seconds
    examples: dict[str, tuple[Files, bool]] = {}
    counts: Counter[str] = Counter()
    number = 0
    while time.monotonic() < ends:
        last, wrong = _batch(target, seeds, seed, number, ends, scratch)
        findings.tried += last + 1 - number
        number = last + 1
        for where, what in wrong:
            counts[what] += 1
            examples.setdefault(what, seeds.input(target, seed, where))
    for place, (what, (files, is_sealed)) in enumerate(examples.items()):
        if place < MOST_MINIMIZED:
            files = minimal(files, _fails_so(target, seeds, what, is_sealed, scratch))
        findings.add(
            what, counts[what], {"target": target.name, "sealed": is_sealed, "files": readable(files)}
        )
    return findings


def seeds_of(target: Target, scratch: Path) -> Seeds:
    """Return the valid inputs of a target, and what is read of them."""
    kept = scratch / "seeds"

    def make() -> None:
        made = scratch / "made"
        made.mkdir(parents=True)
        inputs, results = target.seeds(made), []
        for files in inputs:
            # A reader may refuse one kind of file that another one takes.
            with suppress(*() if target.ours else target.errors):
                results.append(target.use(placed(files, scratch / "input")))
        kept.write_bytes(pickle.dumps(Seeds(inputs, results)))

    run_in_child(make)
    seeds: Seeds = pickle.loads(kept.read_bytes())
    return seeds


def fault_of(target: Target, seeds: Seeds, files: Files, is_sealed: bool, scratch: Path) -> str | None:
    """Return what is wrong with how an input ends, None where it ends as promised."""
    folder = placed(files, scratch / "input")
    with _unraisable() as printed:
        try:
            result = target.use(folder)
        except NotAnInput:
            return None
        except BadEnding as bad:
            return str(bad)
        except target.errors as error:
            return _fault_of_sentence(error, folder if target.names_file else None)
        except BaseException as error:
            return f"{type(error).__name__} {_place(error)}"
    if printed:
        return f"prints a traceback: {printed[0]}"
    if target.ours and not is_sealed and result not in seeds.results:
        return "damage is not noticed"
    return None


@contextmanager
def _unraisable() -> Iterator[list[str]]:
    """Collect errors of callbacks, which Python prints and passes over."""
    printed: list[str] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda found: printed.append(f"{found.exc_type.__name__} {_place(found.exc_value)}")
    try:
        yield printed
    finally:
        sys.unraisablehook = before


def placed(files: Files, folder: Path) -> Path:
    """Return the folder with these files, and no others, in it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def readable(files: Files) -> dict[str, str]:
    """Return files as text, a character a byte."""
    return {name: content.decode("latin-1") for name, content in files.items()}


def _batch(
    target: Target, seeds: Seeds, seed: str, first: int, ends: float, scratch: Path
) -> tuple[int, list[tuple[int, str]]]:
    """Try inputs from ``first`` on; return the last that was begun, and the numbers of those that failed."""
    progress = mmap.mmap(-1, 8)
    progress[:] = struct.pack("<q", first)
    failures = scratch / "failures"
    failures.write_text("")

    def run() -> None:
        with failures.open("a", buffering=1) as file:
            for number in range(first, first + TRIES_A_CHILD):
                progress[:] = struct.pack("<q", number)
                files, is_sealed = seeds.input(target, seed, number)
                fault = fault_of(target, seeds, files, is_sealed, scratch)
                if fault is not None:
                    file.write(json.dumps([number, fault]) + "\n")
                if time.monotonic() > ends:
                    return

    seen = bytes(progress)

    def has_moved() -> bool:
        nonlocal seen
        before, seen = seen, bytes(progress)
        return before != seen

    ending = Child(run).wait(has_moved=has_moved, every=0.02)
    (last,) = struct.unpack("<q", progress)
    wrong = [(number, what) for number, what in map(json.loads, failures.read_text().splitlines())]
    if ending.crash or ending.code:
        wrong.append((last, _words(ending)))
    return last, wrong


def _alone(target: Target, seeds: Seeds, files: Files, is_sealed: bool, scratch: Path) -> str | None:
    """Return what is wrong with how an input ends in a child of its own."""
    found = scratch / "found"
    found.write_text("null")

    def run() -> None:
        found.write_text(json.dumps(fault_of(target, seeds, files, is_sealed, scratch)))

    ending = Child(run).wait(3.0)
    if ending.crash or ending.code:
        return _words(ending)
    fault: str | None = json.loads(found.read_text())
    return fault


def _fails_so(
    target: Target, seeds: Seeds, what: str, is_sealed: bool, scratch: Path
) -> Callable[[Files], bool]:
    return lambda files: _alone(target, seeds, files, is_sealed, scratch) == what


def _words(ending: Ending) -> str:
    """Return how a child died, with the Python line that faulthandler names."""
    lines = re.findall(r'File ".*?/(dmf_fast/[^"]+)", line (\d+) in (\S+)', ending.output)
    place = f" at {lines[0][0]} in {lines[0][2]}" if lines else ""
    return f"{ending.crash or f'exit code {ending.code}'}{place}"


def _fault_of_sentence(error: BaseException, folder: Path | None) -> str | None:
    text = str(error)
    kind = f"{type(error).__name__} {_place(error)}"
    if not text.strip():
        return f"no message: {kind}"
    if folder is not None and len(text) > LONGEST_SENTENCE:
        return f"a message of more than {LONGEST_SENTENCE} characters: {kind}"
    if any(not letter.isprintable() and letter != "\n" for letter in text):
        return f"a message with control characters: {kind}"
    if folder is not None and str(folder) not in text:
        return f"the file is not named: {kind}"
    return None


def _place(error: BaseException | None) -> str:
    """Return the last lines of this project that an error came through."""
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    ours = [frame for frame in frames if "/dmf_fast/" in frame.filename]
    names = [f"{frame.filename.partition('/dmf_fast/')[2]} in {frame.name}" for frame in ours[-2:]]
    return "at " + " > ".join(names) if names else "outside of dmf_fast"
