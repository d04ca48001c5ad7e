"""Processes that tests start raise as a call does, and none hangs."""

from __future__ import annotations

from typing import Any

import pytest
from torch import distributed

from tests.distributed.processes import run_processes


def fail_in_one(mesh: Any) -> None:
    if mesh.get_local_rank() == 1:
        raise FileNotFoundError(2, "No such file", "ratings.blocks")
    distributed.barrier()  # the other never comes


def test_one_process_that_raises_ends_the_others() -> None:
    with pytest.raises(FileNotFoundError, match=r"ratings\.blocks") as raised:
        run_processes(2, fail_in_one)
    assert "fail_in_one" in str(raised.value.__cause__)
