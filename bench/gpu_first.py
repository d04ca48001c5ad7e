"""`bench/gpu_first.sh PART...`: the most important checks and measurements of the CUDA backend, offline.

`first` stands for the parts loads, operators, steps, sweep, variants and tests; `second` for failed (the
tests that failed in the newest first part), profile, grid, netflix, memcheck and racecheck. Either takes at
most five minutes: each part has a time limit, and the next one runs in any case. DATE-GPU-PART.txt is written
continuously, DATE-GPU-PART.json after every part. The exit status is 1 if a part failed or was stopped.

The libraries are those of `make gpu-libraries`, in build/gpu; if they do not load, the product is built.
Needs python3 with torch for CUDA, numpy, pyarrow, safetensors, filelock, tqdm, pytest and hypothesis; ncu and
compute-sanitizer for their parts. A copy without git names its commit in DMF_FAST_COMMIT. `--device cpu`
rehearses everything on small problems, with the operators of the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from bench.gpu_outcomes import collect, summary
from bench.gpu_session import ROOT, Command, Part, Session
from bench.record import RESULTS, origin

SECTIONS = ("SpeedOfLight", "WarpStateStats", "MemoryWorkloadAnalysis", "LaunchStats", "Occupancy")
OPERATORS_SECONDS = 29  # after which no case begins
PATIENCE = 5  # times the seconds of a part, where it is rehearsed on a CPU that others may use


def python(*arguments: str | Path) -> Command:
    """Return a command of the Python that runs this."""
    return Command((sys.executable, *arguments))


def measuring(
    module: str, name: str, session: Session, *more: str | Path, seconds: float = float("inf")
) -> Command:
    """Return a command of a module that writes a JSON of this name, in which a library may follow "of"."""
    where = ("--device", session.device, "--output", session.work / f"{name}.json")
    library = name.partition(" of ")[2] or "product"
    return replace(python("-m", f"bench.{module}", *where, *more), seconds=seconds, library=library)


def measures(module: str, name: str, *more: str) -> Callable[[Session], list[Command]]:
    """Return the commands of a part that has one."""
    return lambda session: [measuring(module, name, session, *more)]


def loads(session: Session) -> list[Command]:
    """Return what needs no GPU: `make cuda-link` asks for this part alone."""
    if session.device == "cpu":
        return [python("-m", "dmf_fast.info")]
    return [python(ROOT / "csrc" / "tests" / "cuda_link.py")]


def operators(session: Session) -> list[Command]:
    """Return all checks, and those of coefficients that the column pass makes again, as for many entries."""
    seconds = ("--seconds", str(OPERATORS_SECONDS * (PATIENCE if session.device == "cpu" else 1)))
    only = ("--only", "completion_loss_gradients")
    return [
        measuring("gpu_checks", "operators", session, *seconds),
        *(measuring("gpu_checks", f"operators of {name}", session, *seconds, *only)
          for name in session.variants if name == "recomputed"),
    ]  # fmt: skip


def sweep(session: Session) -> list[Command]:
    """Return the product among its rivals, then other widths and sizes."""
    commands = [measuring("gpu_sweep", "sweep", session, "--cases", "(1M|10M), h 64", seconds=45)]
    if session.device == "cuda":
        commands.append(measuring("gpu_sweep", "sweep, others", session, "--cases", "h 16|h 128|100k"))
    return commands


def variants(session: Session) -> list[Command]:
    """Return every library alone, at the size that decides; all begin at once and measure one by one."""
    options = ("--ours", "--cases", "1M, h 64", "--turn", session.work / "turn")
    names = [*(["product"] if session.device == "cuda" else []), *session.variants]
    return [measuring("gpu_sweep", f"sweep of {name}", session, *options) for name in names]


def tests(session: Session) -> list[Command]:
    if session.device == "cpu":  # where they are skipped
        options = ["tests/ops/test_on_gpu.py", "tests/observations/test_on_gpu.py"]
    else:
        options = ["--workers", str(max(1, (os.cpu_count() or 1) // 2))]
    return [python("-m", "bench.gpu_tests", "--outcomes", session.work / "tests.outcomes", *options)]


def failed(session: Session) -> list[Command]:
    own, kept = (sorted(place.glob("*-first*.json")) for place in (Path(session.text.name).parent, RESULTS))
    if not (reports := own or kept):
        return []
    newest = reports[-1]  # names begin with the day
    outcomes = session.work / "failed.outcomes"
    return [python("-m", "bench.gpu_tests", "--outcomes", outcomes, "--failed-of", newest)]


def profile(session: Session) -> list[Command]:
    options = ["--profile-from-start", "off", "--clock-control", "none", "--cache-control", "none"]
    options += ["--kernel-name", "regex:line_pass|tile_pass|descend", "--csv", "--page", "details"]
    options += [word for section in SECTIONS for word in ("--section", section)]
    return [Command(["ncu", *options, sys.executable, "-m", "bench.gpu_profile"], copy="profile.csv")]


def sanitizer(tool: str, only: str) -> Callable[[Session], list[Command]]:
    """Return the commands of a tool on small problems of one dtype, in one process, in our kernels alone."""
    options = f"--tool {tool} --kernel-regex kns=dmf --error-exitcode 99 --show-backtrace no".split()
    checks = [sys.executable, "-m", "bench.gpu_checks", "--dtype", "float32", "--only", only]
    watched = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", "compute-sanitizer", *options, *checks]
    return lambda session: [Command(watched, copy=f"{tool}.sanitizer")]


# A process takes 8 to 14 seconds until it measures, and in `operators` those that it starts as much again: 14
# and 29 seconds leave them 15. `sweep` has two processes: 45 seconds are 14 and 31 for 1M and 10M, the rest
# 14 and 16 for three smaller cases. `variants` has seven, which import at once (14); then each in its turn
# has a CUDA context, a problem and 9 rounds of three passes (7 · 3), and one that hangs has 8.
FIRST = {
    "loads": Part(10, loads),
    "operators": Part(45, operators, together=True),
    "steps": Part(25, measures("gpu_steps", "steps")),
    "sweep": Part(75, sweep),
    "variants": Part(45, variants, together=True),
    "tests": Part(100, tests),
}
SECOND = {
    "failed": Part(60, failed),
    "profile": Part(50, profile, needs="ncu"),
    "grid": Part(40, measures("gpu_steps", "grid", "--grid")),
    "netflix": Part(60, measures("gpu_sweep", "netflix", "--cases", "100M")),
    "memcheck": Part(50, sanitizer("memcheck", "h 17|h 64|run of"), needs="compute-sanitizer"),
    "racecheck": Part(40, sanitizer("racecheck", "run|tile|build_layout"), needs="compute-sanitizer"),
}
PARTS = FIRST | SECOND
GROUPS = {"first": tuple(FIRST), "second": tuple(SECOND)}


def run_parts(parts: Mapping[str, Part], session: Session, output: Path) -> bool:
    """Run parts one after the other and write the JSON after each; return whether none failed."""
    with session.surviving():
        session.prepare()
    ended: dict[str, dict[str, object]] = {}
    report: dict[str, Any] = {**origin(), "parts": ended}
    for name, part in parts.items():
        session.say(f"==== {name}")
        start, outcome = time.monotonic(), "failed"
        with session.surviving():
            outcome = session.run_part(part)
        ended[name] = {"outcome": outcome, "seconds": round(time.monotonic() - start, 1)}
        session.say(f"==== {name} {outcome} in {ended[name]['seconds']} seconds")
        with session.surviving():
            report |= collect(session.work)
        output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    session.say("==== summary")
    with session.surviving():
        for line in summary(report):
            session.say(line)
    return not any(part["outcome"] in ("failed", "stopped") for part in ended.values())


def short_name(name: str) -> str:
    """Return the model in a GPU's name, for a file: the first word with a digit."""
    model = re.search(r"[A-Za-z]*\d\w*", name)
    return (model.group() if model else "gpu").lower()


def gpu_name() -> str:
    """Return the GPU's name, as the driver says it."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(
        "bench/gpu_first.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("parts", nargs="+", choices=[*GROUPS, *PARTS], metavar="PART")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    gpu = "cpu" if given.device == "cpu" else short_name(gpu_name())
    output = given.output.resolve() / f"{date.today().isoformat()}-{gpu}-{'-'.join(given.parts)}.json"
    names = [name for part in given.parts for name in GROUPS.get(part, (part,))]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work,
        output.with_suffix(".txt").open("w") as text,
    ):
        session = Session(given.device, Path(work), text, ROOT / "build" / "gpu")
        patience = PATIENCE if given.device == "cpu" else 1
        parts = {name: replace(PARTS[name], seconds=PARTS[name].seconds * patience) for name in names}
        sys.exit(0 if run_parts(parts, session, output) else 1)


if __name__ == "__main__":
    main()
