"""`python -m bench.gpu_tests`: the tests that need a GPU; every outcome is written as soon as it is known.

pytest also loads this file as a plugin. A test that takes too long ends its process, which pytest-xdist
replaces, and counts as failed. Warnings do not fail tests here, since packages may have other versions than
those that the tests were written for.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Those with tests for a GPU, most important first. They need no package that only other tests need.
FILES = (
    "tests/ops/test_on_gpu.py",
    "tests/training/engines/test_engines.py",
    "tests/training/engines/test_choice.py",
    "tests/observations/test_on_gpu.py",
    "tests/ops/test_operators.py",
    "tests/ops/test_functional.py",
    "tests/ops/test_autograd.py",
    "tests/training/engines/test_trajectories.py",
    "tests/training/engines/test_native.py",
    "tests/training/test_checkpoints.py",
    "tests/training/test_stopping.py",
    "tests/training/test_rows.py",
    "tests/training/test_weights.py",
    "tests/serving/test_item_filters.py",
    "tests/serving/test_top_columns.py",
    "tests/estimator/test_serving.py",
)
SECONDS_A_TEST = 30
OUTCOMES = "DMF_FAST_TEST_OUTCOMES"  # names the file, one JSON a line


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process of a test that hangs, also where it hangs in a call, and say where it was."""
    with Path(os.environ[OUTCOMES]).with_suffix(".hung").open("a") as hung:
        faulthandler.dump_traceback_later(SECONDS_A_TEST, exit=True, file=hung)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write an outcome, once a test; the process that collects those of all workers does."""
    if "PYTEST_XDIST_WORKER" in os.environ or (report.passed and report.when != "call"):
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    said = "" if report.passed else str(report.longrepr if crash is None else crash.message)
    outcome = {"test": report.nodeid, "outcome": report.outcome, "seconds": report.duration}
    with Path(os.environ[OUTCOMES]).open("a") as outcomes:
        outcomes.write(json.dumps(outcome | {"message": said.strip()[:500]}) + "\n")


def failed_of(report: Path) -> list[str]:
    """Return the names of the tests that failed in a report of the first part."""
    return list(json.loads(report.read_text()).get("tests", {}).get("names_of_failed", {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", type=Path, required=True, help="file for outcomes, one JSON a line")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--failed-of", type=Path, help="report whose failed tests are run, and no others")
    parser.add_argument("tests", nargs="*", default=FILES, help="files or tests")
    given = parser.parse_args()
    tests = given.tests if given.failed_of is None else failed_of(given.failed_of)
    if not tests:
        sys.exit(print("no test failed"))
    os.environ[OUTCOMES] = str(given.outcomes.resolve())
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("PYTEST_XDIST_WORKER", None)  # of tests that rehearse this: here it is nobody's worker
    options = ["-q", "-p", "bench.gpu_tests", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    options += ["-o", "addopts=--import-mode=importlib --strict-markers", "-o", "filterwarnings=default"]
    options += ["--disable-warnings", "-m", "cuda and not slow"]
    if given.workers > 1 and importlib.util.find_spec("xdist") is not None:
        options += ["-n", str(given.workers), "--dist", "worksteal"]
    status = pytest.main([*options, *tests])
    sys.exit(0 if status == pytest.ExitCode.NO_TESTS_COLLECTED else int(status))


if __name__ == "__main__":
    main()
