"""`bench/gpu_first.sh PART...`: what is most worth knowing of the CUDA backend, on a machine without network.

`first` stands for the parts loads, operators, steps, sweep, variants and tests; `second` for failed (the
tests that failed in the newest first part), profile, grid, netflix, memcheck and racecheck. Either takes at
most five minutes: no part takes longer than its time, or stops the next. DATE-GPU-PART.txt is written as it
goes, DATE-GPU-PART.json after every part. The exit status is 1 where a part failed or was stopped.

The libraries are those of `make gpu-libraries`, in build/gpu; where they do not load, the product is built.
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
OPERATORS_SECONDS = 30  # after which the table is made of what there is
PATIENCE = 5  # times the seconds of a part, where it is rehearsed on a CPU that others may use


def python(*arguments: str | Path, seconds: float = float("inf"), library: str = "product") -> Command:
    """Return a command of the Python that runs this, with one of the libraries."""
    return Command((sys.executable, *arguments), seconds, library)


def measuring(
    session: Session,
    module: str,
    output: str,
    *more: str | Path,
    seconds: float = float("inf"),
    library: str = "product",
) -> Command:
    """Return a command that runs a module which measures on the device and writes a JSON."""
    where = ("--device", session.device, "--output", session.work / f"{output}.json")
    return python("-m", f"bench.{module}", *where, *more, seconds=seconds, library=library)


def loads(session: Session) -> list[Command]:
    """Return what needs no GPU: `make cuda-link` asks for this part alone."""
    if session.device == "cpu":
        return [python("-m", "dmf_fast.info")]
    return [python(ROOT / "csrc" / "tests" / "cuda_link.py")]


def operators(session: Session) -> list[Command]:
    """Return all checks, and those of coefficients that the column pass makes again, as for many entries."""
    seconds = ("--seconds", str(OPERATORS_SECONDS * (PATIENCE if session.device == "cpu" else 1)))
    commands = [measuring(session, "gpu_checks", "operators", *seconds)]
    if (name := "recomputed") in session.variants:
        only = ("--only", "completion_loss_gradients")
        commands.append(
            measuring(session, "gpu_checks", f"operators of {name}", *seconds, *only, library=name)
        )
    return commands


def steps(session: Session) -> list[Command]:
    return [measuring(session, "gpu_step", "steps")]


def sweep(session: Session) -> list[Command]:
    """Return the product among its rivals, then other widths and sizes."""
    commands = [measuring(session, "gpu_sweep", "sweep", "--cases", "(1M|10M), h 64", seconds=45)]
    if session.device == "cuda":
        commands.append(measuring(session, "gpu_sweep", "sweep of others", "--cases", "h 16|h 128|100k"))
    return commands


def variants(session: Session) -> list[Command]:
    """Return every library alone, at the size that decides; all begin at once and measure one by one."""
    turn = ("--turn", session.work / "turn")
    return [
        measuring(
            session, "gpu_sweep", f"sweep of {name}", "--ours", "--cases", "1M, h 64", *turn, library=name
        )
        for name in (*(["product"] if session.device == "cuda" else []), *session.variants)
    ]


def tests(session: Session) -> list[Command]:
    if session.device == "cpu":  # where they are skipped
        options = ["tests/ops/test_on_gpu.py", "tests/observations/test_on_gpu.py"]
    else:
        options = ["--workers", str(max(1, (os.cpu_count() or 1) // 2))]
    return [python("-m", "bench.gpu_tests", "--outcomes", session.work / "tests.outcomes", *options)]


def failed(session: Session) -> list[Command]:
    places = (Path(session.text.name).parent, RESULTS)
    reports = [report for place in places for report in place.glob("*-first*.json")]
    if not reports:
        return []
    newest = max(reports, key=lambda report: report.stem)  # which begins with its day
    outcomes = session.work / "failed.outcomes"
    return [python("-m", "bench.gpu_tests", "--outcomes", outcomes, "--failed-of", newest)]


def profile(session: Session) -> list[Command]:
    options = ["--profile-from-start", "off", "--clock-control", "none", "--cache-control", "none"]
    options += ["--kernel-name", "regex:line_pass|tile_pass|descend", "--csv", "--page", "details"]
    options += [word for section in SECTIONS for word in ("--section", section)]
    return [Command(["ncu", *options, sys.executable, "-m", "bench.gpu_profile"], copy="profile.csv")]


def grid(session: Session) -> list[Command]:
    return [measuring(session, "gpu_grid", "grid")]


def netflix(session: Session) -> list[Command]:
    return [measuring(session, "gpu_sweep", "netflix", "--cases", "100M")]


def sanitizer(tool: str, only: str) -> Callable[[Session], list[Command]]:
    """Return the commands of a tool on small problems of one dtype, in one process, in our kernels alone."""
    options = f"--tool {tool} --kernel-regex kns=dmf --error-exitcode 99 --show-backtrace no".split()
    checks = [sys.executable, "-m", "bench.gpu_checks", "--dtype", "float32", "--only", only]
    watched = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", "compute-sanitizer", *options, *checks]
    return lambda session: [Command(watched, copy=f"{tool}.sanitizer")]


# A process takes 8 to 14 seconds until it measures. `sweep` has two of them, each with time for its cases: 45
# is 14 and 31 for 1M and 10M, the rest 14 and 21 for the other three. `variants` has seven, which import at
# once (14); then each in its turn has a CUDA context, a problem and 9 rounds of three passes (7 · 3).
FIRST = {
    "loads": Part(10, loads),
    "operators": Part(40, operators, together=True),
    "steps": Part(25, steps),
    "sweep": Part(80, sweep),
    "variants": Part(40, variants, together=True),
    "tests": Part(105, tests),
}
SECOND = {
    "failed": Part(60, failed),
    "profile": Part(50, profile, needs="ncu"),
    "grid": Part(40, grid),
    "netflix": Part(60, netflix),
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
    parser.add_argument(
        "--libraries", type=Path, default=ROOT / "build" / "gpu", help="where they are prebuilt"
    )
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
        session = Session(given.device, Path(work), text, given.libraries.resolve())
        patience = PATIENCE if given.device == "cpu" else 1
        parts = {name: replace(PARTS[name], seconds=PARTS[name].seconds * patience) for name in names}
        sys.exit(0 if run_parts(parts, session, output) else 1)


if __name__ == "__main__":
    main()
