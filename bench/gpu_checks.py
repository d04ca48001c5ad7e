"""`python -m bench.gpu_checks`: all operators and runs in every dtype, and one table of all that is wrong.

Nothing ends at the first mismatch. Every dtype has a process of its own, and where that ends (an illegal
access, a kernel that hangs), another one goes on with the next case. torch fills memory that is new with NaN,
so that what no kernel writes is seen.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from threading import Timer
from typing import Any

import torch

from bench import gpu_operators, gpu_runs
from bench.gpu_operators import Check
from bench.gpu_outcomes import mismatches, operator_of

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
}
SECONDS_A_CASE = 12
MOST_PROCESSES = 8  # a dtype

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
        error, problem, lost = float("inf"), None, False
        try:
            error, problem = check()
        except Exception as exception:
            problem = f"{type(exception).__name__}: {exception}".partition("\n")[0][:200]
            lost = "CUDA error" in str(exception)  # after which nothing works in a process
        signal.alarm(0)
        print(json.dumps({"case": name, "error": error, "problem": problem}), flush=True)
        if lost:
            sys.exit(3)


def check_elsewhere(dtype: str, device: str, only: str, ends: float) -> list[Case]:
    """Return all cases of a dtype, from as many processes as it takes, until the clock says `ends`."""
    cases: list[Case] = []
    for _ in range(MOST_PROCESSES):
        command = [sys.executable, "-m", "bench.gpu_checks", "--device", device, "--dtype", dtype]
        command += ["--only", only, "--first", str(len(cases)), "--seconds-a-case", str(SECONDS_A_CASE)]
        begun = None
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            stop = Timer(max(0.0, ends - time.monotonic()), child.kill)
            stop.start()
            for said in map(json.loads, filter(lambda line: line.startswith("{"), child.stdout)):
                begun = said.get("begins")
                if begun is None:
                    cases.append({"dtype": dtype, **said})
            stop.cancel()
        if child.returncode == 0:
            return cases
        if begun is not None or child.returncode != 3:
            problem = f"its process ended with status {child.returncode}"
            cases.append(
                {"dtype": dtype, "case": begun or "start", "error": float("inf"), "problem": problem}
            )
        if time.monotonic() >= ends:
            break
    cases.append({"dtype": dtype, "case": "the rest", "error": float("inf"), "problem": "was not reached"})
    return cases


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


def show(found: dict[str, Any]) -> None:
    """Print the largest errors as a table, and everything that is wrong."""
    dtypes = list(found["largest_errors"])
    print(f"{'largest error':<42}" + "".join(f"{dtype:>11}" for dtype in dtypes))
    for operator in dict.fromkeys(name for errors in found["largest_errors"].values() for name in errors):
        errors = (found["largest_errors"][dtype].get(operator) for dtype in dtypes)
        print(f"{operator:<42}" + "".join("          –" if one is None else f"{one:11.1e}" for one in errors))
    for line in mismatches(found["wrong"]):
        print(line)
    print(f"{found['cases']} cases, {len(found['wrong'])} wrong")


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
    with ThreadPoolExecutor(len(DTYPES)) as pool:
        found = pool.map(lambda dtype: check_elsewhere(dtype, given.device, given.only, ends), DTYPES)
    result = summary([case for cases in found for case in cases])
    show(result)
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    sys.exit(bool(result["wrong"]))


if __name__ == "__main__":
    main()
