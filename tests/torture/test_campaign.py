"""The campaign finds what it looks for, and says it by a small input."""

from __future__ import annotations

from tests.killing import assert_runs

_SCRIPT = """
import itertools, os, signal, tempfile, time
from pathlib import Path
from types import SimpleNamespace
from tests.torture import children, fuzzing, minimizing
from tests.torture.fuzzing import Target, fuzz

# Time that passes by tries, and where nothing may take too long.
ticks = itertools.count()
fuzzing.time = SimpleNamespace(monotonic=lambda: next(ticks) / 40)
minimizing.time = children.time = SimpleNamespace(monotonic=lambda: 0.0, sleep=time.sleep)

def use(folder):
    content = (folder / "a.txt").read_bytes()
    if b"7" in content:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"5" in content:
        raise KeyError("five")
    if b"-" in content:
        raise ValueError("it is negative")
    if b"nan" in content:
        raise ValueError(f"{folder} is not finite")
    return sorted(content.split())

target = Target("numbers", lambda _: [{"a.txt": b"1 2 3 4"}], use, ours=True)
with tempfile.TemporaryDirectory() as scratch:
    found = fuzz(target, "seed", 1.0, Path(scratch))
examples = {failure["what"]: failure["example"]["files"]["a.txt"] for failure in found.failures}
assert found.tried > 100
assert examples["crashed by SIGSEGV"] == "7", examples
assert examples["KeyError outside of dmf_fast"] == "5", examples
assert examples["the file is not named: ValueError outside of dmf_fast"] == "-", examples
assert "damage is not noticed" in examples
assert len(examples) == 4, examples
"""


def test_inputs_that_crash_or_raise_or_hide_damage_are_found_and_minimal() -> None:
    assert_runs(_SCRIPT)
