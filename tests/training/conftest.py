"""Fixtures of the tests of `descend`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType

import pytest

from dmf_fast import info
from dmf_fast.ops import planner


@pytest.fixture(params=info.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this machine in turn."""
    before = info.active_instruction_set()
    info.set_instruction_set(request.param)
    yield request.param
    info.set_instruction_set(before)


@pytest.fixture(params=["split", "formed"])
def descent_plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The plan that splits the chain, wherever there is a split, and the one that forms the matrix."""
    cost = -1e15 if request.param == "split" else 1e15
    monkeypatch.setattr(planner, "DESCENT", replace(planner.DESCENT, split=cost))
    return str(request.param)


@pytest.fixture
def bounded() -> Iterator[None]:
    """A minute, after which a test fails that would go on for ever: for runs that only a rule ends."""

    def fail(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the test has not ended within a minute")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
