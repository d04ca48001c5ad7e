"""Plants small bugs, one at a time, in a copy of the tree, and counts those that the tests notice.

`make mutants` runs it for all packages; `python -m bench.mutants tuning data` for some. cosmic-ray makes the
bugs in Python, `native_mutants.yaml` lists those in C++. A full run would take days, so a sample is drawn:
`--mutants` places per package, always the same ones for a seed, with one bug each. Tests of the module that
has the bug run first, then the others of its package.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml

from bench.record import origin, results_file

if TYPE_CHECKING:
    from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.85
OF_ALL_PACKAGES = ["tests/test_records.py"]
NATIVE, NATIVE_MUTANTS = "csrc", Path(__file__).with_name("native_mutants.yaml")
# What tests of a package are given besides the time that they take, times this.
PATIENCE, START_UP = 4.0, 60.0
# Omitted: `|` occurs in types, which are not executed; `is` for `==` is no bug; shifts and the like of
# numbers that are not integers raise at once, which says nothing about tests.
LEFT_OUT = re.compile(
    r"BitOr_|_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)$|_(Is|IsNot)_(Eq|NotEq|Lt|LtE|Gt|GtE)$"
    r"|BinaryOperator_\w+_(FloorDiv|Mod|Pow|RShift|LShift|BitOr|BitAnd|BitXor)$"
)
# Engines that only run there.
NEEDS_A_GPU = re.compile("^cuda_")
# Sources and tests where they do not lie in folders of the package's name.
ELSEWHERE = {"planner": (["dmf_fast/ops/planner.py", "dmf_fast/ops/costs.py"], ["tests/ops/test_planner.py"])}
PACKAGES = (
    "tuning",
    "completion",
    "experiments",
    "data",
    "evaluation",
    "training",
    "serving",
    "planner",
    "estimator",
    "files",
    "observations",
    "optim",
    "convex",
)


@dataclass(frozen=True)
class Mutant:
    """A planted bug and what became of it."""

    package: str
    place: str
    change: str
    killed: bool
    seconds: float


def main() -> None:
    """Plant bugs, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", help=f"of {', '.join((*PACKAGES, NATIVE))}; all without any")
    parser.add_argument("--mutants", type=int, default=20, help="places a package")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--out", type=Path, default=results_file("mutants"))
    given = parser.parse_args()
    out, tried = given.out.resolve(), list[Mutant]()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        enter_copy(Path(folder) / "tree")
        for package in given.packages or [*PACKAGES, NATIVE]:
            if package == NATIVE:
                tried += native_mutants()
            else:
                tried += python_mutants(package, given.mutants, given.seed)
            write(out, tried, given.mutants, given.seed)
    print(table(tried))


def enter_copy(copy: Path) -> None:
    """Copy the tree and work in it; its package comes before the one that is installed."""
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", "build", "runs", "__pycache__", ".*_cache", "*.egg-info"
    )
    shutil.copytree(ROOT, copy, ignore=left_out, symlinks=True)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def python_mutants(package: str, count: int, seed: int) -> Iterator[Mutant]:
    """Plant a sample of bugs in a package."""
    from cosmic_ray.mutating import mutate_and_test  # here and below, as only this needs cosmic-ray
    from cosmic_ray.work_item import TestOutcome

    sources, tests = ELSEWHERE.get(package, ([f"dmf_fast/{package}"], [f"tests/{package}"]))
    tests = [*OF_ALL_PACKAGES, *tests]
    run = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    run += ["--hypothesis-profile=unshrunk"]
    started = time.monotonic()
    passed = subprocess.run([*run, *tests, *sources], stdout=subprocess.PIPE, text=True)
    if passed.returncode != 0:
        raise RuntimeError(
            f"the tests of {package} must pass before bugs are planted:\n{passed.stdout[-2000:]}"
        )
    limit = PATIENCE * (time.monotonic() - started) + START_UP
    modules = [
        module for source in sources for module in sorted(Path(source).rglob("*.py")) or [Path(source)]
    ]
    for mutation in sample(modules, count, random.Random(f"{seed} {package}")):
        module = mutation.module_path
        its_own = [module, Path("tests", *module.parts[1:-1], f"test_{module.name}")]
        first = [str(path) for path in its_own if path.exists()]
        started = time.monotonic()
        result = mutate_and_test([mutation], shlex.join([*run, *first, *tests, *sources]), limit)
        if result.test_outcome not in (TestOutcome.KILLED, TestOutcome.SURVIVED):
            raise RuntimeError(f"{mutation} could not be planted: {result.output}")
        line, _ = mutation.start_pos
        yield told(
            Mutant(
                package,
                f"{module}:{line}",
                changed_lines(result.diff or ""),
                result.test_outcome == TestOutcome.KILLED,
                time.monotonic() - started,
            )
        )


def sample(modules: list[Path], count: int, draw: random.Random) -> list[MutationSpec]:
    """Draw places among all that can be changed, and one change at each of them."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB, use_db

    modules = [
        module for module in modules if torch.cuda.is_available() or not NEEDS_A_GPU.search(module.name)
    ]
    with use_db(":memory:", mode=WorkDB.Mode.create) as known:
        init(modules, known, {})
        mutations = [item.mutations[0] for item in known.work_items]
    places: dict[tuple[str, tuple[int, int]], list[MutationSpec]] = {}
    for mutation in mutations:
        if not LEFT_OUT.search(mutation.operator_name):
            places.setdefault((str(mutation.module_path), mutation.start_pos), []).append(mutation)
    drawn: list[MutationSpec] = []
    for place in draw.sample(sorted(places), len(places)):
        changes = sorted(places[place], key=lambda change: (change.operator_name, change.occurrence))
        change = draw.choice(changes)
        if len(drawn) < count and is_a_bug(change):
            drawn.append(change)
    return drawn


def is_a_bug(change: MutationSpec) -> bool:
    """Say whether a change is still Python, and of more than what type checkers see."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = change.module_path.read_text(encoding="utf-8")
    if "TYPE_CHECKING" in source.splitlines()[change.start_pos[0] - 1]:
        return False
    try:
        compile(mutate_code(source, get_operator(change.operator_name)(), change.occurrence), "", "exec")
    except SyntaxError:
        return False
    return True


def native_mutants() -> Iterator[Mutant]:
    """Plant the bugs of the list in the kernels, build their tests, and run these."""
    builds, tests = Path("build/cpp-tests-plain"), "build/cpp-tests-plain/kernel_tests"
    if (ROOT / "build/catch2").exists():
        shutil.copytree(ROOT / "build/catch2", "build/catch2", dirs_exist_ok=True)
    started = time.monotonic()
    subprocess.run(["sh", "csrc/tests/run.sh", "plain"], check=True, stdout=subprocess.DEVNULL)
    limit = PATIENCE * (time.monotonic() - started) + START_UP
    for bug in yaml.safe_load(NATIVE_MUTANTS.read_text(encoding="utf-8")):
        path, was, becomes = Path("csrc", bug["file"]), bug["was"].rstrip("\n"), bug["becomes"].rstrip("\n")
        text = path.read_text(encoding="utf-8")
        if text.count(was) != 1:
            raise ValueError(
                f"{path} must hold {was!r} once, got it {text.count(was)} times; mend {NATIVE_MUTANTS}"
            )
        started = time.monotonic()
        path.write_text(text.replace(was, becomes), encoding="utf-8")
        try:
            subprocess.run(["cmake", "--build", builds], check=True, stdout=subprocess.DEVNULL)
            killed = fails(tests, limit)
        finally:
            path.write_text(text, encoding="utf-8")
        line = text[: text.index(was)].count("\n") + 1
        change = f"{was} → {becomes}"
        seconds = time.monotonic() - started
        yield told(Mutant(NATIVE, f"{path}:{line}", change, killed, seconds))


def fails(command: str, limit: float) -> bool:
    """Say whether a command fails or does not come to an end."""
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, timeout=limit).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def changed_lines(diff: str) -> str:
    """Return the lines that a diff takes away and adds."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++", "@@"))]
    sides = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return " → ".join(" ".join(side) for side in sides)


def told(mutant: Mutant) -> Mutant:
    """Say at once what became of a bug."""
    print("killed  " if mutant.killed else "SURVIVED", mutant.place, mutant.change, flush=True)
    return mutant


def rates(tried: list[Mutant]) -> dict[str, dict[str, float]]:
    """Return how many bugs of each package were planted and noticed."""
    found: dict[str, dict[str, float]] = {}
    for package in dict.fromkeys(mutant.package for mutant in tried):
        own = [mutant.killed for mutant in tried if mutant.package == package]
        found[package] = {"planted": len(own), "killed": sum(own), "rate": round(sum(own) / len(own), 3)}
    return found


def write(out: Path, tried: list[Mutant], count: int, seed: int) -> None:
    """Write what is known so far."""
    mutants = [asdict(mutant) | {"seconds": round(mutant.seconds, 1)} for mutant in tried]
    report = origin() | {
        "places": count,
        "seed": seed,
        "goal": GOAL,
        "packages": rates(tried),
        "mutants": mutants,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def table(tried: list[Mutant]) -> str:
    """Return one line a package; a mark where the goal is missed."""
    lines = [f"{'package':14}{'planted':>8}{'killed':>8}{'rate':>7}"]
    for package, rate in rates(tried).items():
        mark = "" if rate["rate"] >= GOAL else f"  below {GOAL:.0%}"
        lines.append(f"{package:14}{rate['planted']:8}{rate['killed']:8}{rate['rate']:7.0%}{mark}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
