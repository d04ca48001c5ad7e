"""`python -m bench.gpu_checks`: checks all operators and runs in every dtype; one table of all errors.

Continues after mismatches. Every dtype has a process of its own, and if that ends (an illegal access, a
kernel that hangs), another one continues with the next case. torch fills new memory with NaN, so that
elements that no kernel writes are noticed.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from bench import gpu_operators, gpu_runs
from bench.gpu_operators import Check
from bench.gpu_outcomes import mismatches, operator_of
from bench.gpu_process import run

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
}
SECONDS_A_CASE = 8
MOST_PROCESSES = 8  # a dtype
LOST = 3  # the status of a process in which nothing works any more

Case = dict[str, Any]


def checks(dtype: str, device: str, only: str) -> Iterator[tuple[str, Check]]:
    """Yield the cases of a dtype whose names match `only`."""
    both = chain(gpu_operators.checks(DTYPES[dtype], device), gpu_runs.checks(DTYPES[dtype], device))
    return ((name, check) for name, check in both if re.search(only, name))


def check_here(dtype: str, device: str, only: str, first: int, seconds_a_case: int) -> None:
    """Check the cases from the `first` on and print each, one JSON a line, before and after it."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills new memory
    for name, check in islice(checks(dtype, device, only), first, None):
        print(json.dumps({"begins": name}), flush=True)
        signal.alarm(seconds_a_case)  # ends the process, also inside of a call
        error, problem = float("inf"), None
        try:
            error, problem = check()
        except Exception as exception:
            problem = f"{type(exception).__name__}: {exception}".partition("\n")[0][:200]
        lost = error == float("inf") and is_lost(device)
        signal.alarm(0)
        print(json.dumps({"case": name, "error": error, "problem": problem}), flush=True)
        if lost:
            sys.exit(LOST)


def is_lost(device: str) -> bool:
    """Whether nothing works any more in this process, as after an illegal access, whoever reported it."""
    try:
        if device == "cuda":
            torch.cuda.synchronize()
    except Exception:
        return True
    return False


def check_elsewhere(dtype: str, device: str, only: str, ends: float) -> list[Case]:
    """Return all cases of a dtype, from as many processes as it takes, until the clock says `ends`."""
    cases: list[Case] = []
    first = 0

    def wrong(name: str, problem: str) -> Case:
        return {"dtype": dtype, "case": name, "error": float("inf"), "problem": problem}

    for _ in range(MOST_PROCESSES):
        command = [sys.executable, "-m", "bench.gpu_checks", "--device", device, "--dtype", dtype]
        command += ["--only", only, "--first", str(first), "--seconds-a-case", str(SECONDS_A_CASE)]
        lines: list[str] = []
        status = run(command, max(0.0, ends - time.monotonic()), lines.append, stderr=None)
        said = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        begun = [one["begins"] for one in said if "begins" in one]
        ended = [{"dtype": dtype, **one} for one in said if "case" in one]
        first += len(begun)
        cases += ended
        if status == 0:
            return cases
        if len(begun) > len(ended):
            cases.append(wrong(begun[-1], reason(status)))
        elif status not in (LOST, None):
            cases.append(wrong("start", reason(status)))
        if status is None:
            break
    return [*cases, wrong("the rest", "was not reached")]


def reason(status: int | None) -> str:
    """Say why a process has ended."""
    if status is None:
        return "had not ended when the time was over"
    if status == -signal.SIGALRM:
        return f"took longer than {SECONDS_A_CASE} seconds"
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return f"its process ended with {name}"


def summary(cases: list[Case]) -> dict[str, Any]:
    """Return how many there were, all that are wrong, and the largest error of every operator and dtype."""
    largest: dict[str, dict[str, float]] = {}
    for case in cases:
        if case["problem"] is None:
            of_dtype = largest.setdefault(case["dtype"], {})
            operator = operator_of(case["case"])
            of_dtype[operator] = max(of_dtype.get(operator, 0.0), case["error"])
    wrong = [{"dtype": case["dtype"], "case": case["case"], "problem": case["problem"]}
             for case in cases if case["problem"] is not None]  # fmt: skip
    return {"cases": len(cases), "wrong": wrong, "largest_errors": largest}


def show(cases: list[Case]) -> None:
    """Print the largest errors of a dtype, and everything that is wrong."""
    found = summary(cases)
    for dtype, errors in found["largest_errors"].items():
        for operator, error in errors.items():
            print(f"{dtype:<9} {operator:<42}{error:9.1e}")
    for line in mismatches(found["wrong"]):
        print(line)
    print(f"{found['cases']} cases, {len(found['wrong'])} wrong", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--only", default="", help="regular expression of names of cases")
    parser.add_argument("--seconds", type=float, default=60.0, help="no case begins later")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--dtype", choices=DTYPES, help="check this one in this process")
    parser.add_argument("--first", type=int, default=0, help="how many of its cases to leave out")
    parser.add_argument(
        "--seconds-a-case", type=int, default=0, help="after which the process ends; 0: never"
    )
    given = parser.parse_args()
    if given.dtype is not None:
        return check_here(given.dtype, given.device, given.only, given.first, given.seconds_a_case)
    ends = time.monotonic() + given.seconds
    cases: list[Case] = []
    with ThreadPoolExecutor() as pool:
        checked = [pool.submit(check_elsewhere, one, given.device, given.only, ends) for one in DTYPES]
        for of_dtype in as_completed(checked):
            cases += of_dtype.result()
            show(of_dtype.result())
            if given.output is not None:
                given.output.write_text(json.dumps(summary(cases), indent=1, ensure_ascii=False) + "\n")
    sys.exit(any(case["problem"] is not None for case in cases))


if __name__ == "__main__":
    main()
