"""Dealing rows into blocks: pairs that occur twice, a target for memory, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dmf_fast.data import DataError, ReadOptions, deal
from dmf_fast.data.blocks import prepare_blocks
from tests.data.row_blocks import POLICIES, blocks_of, written
from tests.killing import assert_runs


@pytest.mark.parametrize("duplicates", POLICIES[1:])
def test_a_pair_that_stands_in_several_batches_is_merged_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duplicates: Any
) -> None:
    monkeypatch.setattr(deal, "_FETCHED_ROWS", 3)
    lines = [f"1,2,{k}" for k in range(11)] + ["1,3,5", "2,2,7"] + [f"2,2,{k}" for k in range(2, 9)]
    source = written(tmp_path / "a.csv", lines)

    prepare_blocks(source, tmp_path / "out", 2, duplicates=duplicates)

    value = {"first": (0.0, 7.0), "last": (10.0, 8.0), "mean": (5.0, 42 / 8), "sum": (55.0, 42.0)}[duplicates]
    assert blocks_of(tmp_path / "out") == [[(1, {2: value[0], 3: 5.0})], [(2, {2: value[1]})]]


def test_a_pair_that_stands_twice_is_named_with_its_places(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", ["9,9,1", "7,8,1", "1,1,2", "7,8,3", "9,9,1", "9,9,2"])
    with pytest.raises(DataError, match=r"line 5: the pair \(7, 8\) already occurs at .*a\.csv, line 3; "):
        prepare_blocks(source, tmp_path / "out", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_sum_beyond_the_type_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", ["7,8,3e38", "7,8,3e38", "1,1,1"])
    with pytest.raises(
        DataError, match=r"sum of the values of \(7, 8\) exceeds the range of float32; choose"
    ):
        prepare_blocks(source, tmp_path / "out", 1, duplicates="sum")
    facts = prepare_blocks(source, tmp_path / "out", 1, ReadOptions(dtype="float64"), duplicates="sum")
    assert facts.largest == 6e38


def test_long_ids_are_dealt_near_a_target_for_memory_that_does_not_hold_them_all(tmp_path: Path) -> None:
    count, pad = 300_000, "x" * 300
    with (tmp_path / "a.csv").open("w") as file:
        file.write("user,item,rating\n")
        file.writelines(f"{pad}{7919 * k % 1_000_003},{k % 100},1\n" for k in range(count))
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (700 << 20, 700 << 20))\n"
        "from dmf_fast.data.blocks import prepare_blocks\n"
        "facts = prepare_blocks(sys.argv[1], sys.argv[2], 4, memory=400)\n"
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(facts.rows, int(peak) >> 10, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.csv"), str(tmp_path / "out")]
    few_threads = os.environ | {"OMP_NUM_THREADS": "2"}  # of NumPy and Arrow, each with memory of its own
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=few_threads)
    assert done.returncode == 0, done.stderr
    rows, megabytes, imported = done.stdout.split()
    assert int(rows) == count
    assert int(megabytes) < 1.1 * 400  # what the allocators keep varies; with memory=2000 it is 507
    assert imported == "False"


def test_too_little_memory_says_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(
            MemoryError, match=r"there is not enough memory to deal the ratings in 400 MB .*--memory"
        ),
        deal.database(tmp_path, 400, 1) as connection,
    ):
        connection.execute("SELECT list(range::VARCHAR) FROM range(50_000_000)")


def test_ctrl_c_within_a_query_is_ctrl_c(tmp_path: Path) -> None:
    assert_runs(
        "import os, pathlib, signal, threading\n"
        "from dmf_fast.data import deal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        f"    with deal.database(pathlib.Path({str(tmp_path)!r}), 400, 1) as connection:\n"
        "        connection.execute('SELECT count(*) FROM range(1000000000000) WHERE hash(range) = 7')\n"
        "except KeyboardInterrupt:\n"
        "    raise SystemExit(0)\n"
        "raise SystemExit('it was not interrupted')"
    )


def test_ctrl_c_amid_the_import_of_duckdb_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruptible: None
) -> None:
    ended = []

    def slow_import(name: str) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        ended.append(name)
        return object()

    monkeypatch.setattr(deal, "import_module", slow_import)
    with pytest.raises(KeyboardInterrupt), deal.database(tmp_path, 400, 1):
        pass
    assert ended == ["duckdb"]
