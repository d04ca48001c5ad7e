"""Fixtures of the tests of `fit`: the engines that make its steps."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import FrameType
from typing import TypeAlias

import pytest
import torch

from dmf_fast import info
from dmf_fast._native import Outcome
from dmf_fast.training import Trial, course, fit_many
from dmf_fast.training import run as run_module
from tests import problems
from tests.conftest import HAS_GPU, using_instruction_set
from tests.training.blocks import Blocks, blocks_on_cpu

# An engine and where its problems lie. cuda_graph makes its steps on the CPU too, without a graph, and
# cuda_block by kernels that are compiled for it.
_ENGINES = [("native", "cpu"), ("torch", "cpu"), ("cuda_graph", "cpu"), ("cuda_block", "cpu")]
_ON_GPU = [("cuda_block", "cuda"), ("cuda_graph", "cuda"), ("torch", "cuda")] if HAS_GPU else []


def _engine_param(name: str, place: str) -> object:
    marks = [pytest.mark.cuda] if place == "cuda" else []
    return pytest.param((name, place), id=f"{name} on {place}", marks=marks)


@pytest.fixture(params=[_engine_param(*one) for one in _ENGINES + _ON_GPU])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every engine in turn; problems are drawn on its device."""
    name, place = request.param
    monkeypatch.setattr(problems, "DEVICE", place)
    with blocks_on_cpu() if request.param == ("cuda_block", "cpu") else nullcontext():
        yield str(name)


@pytest.fixture(params=[*info.available_instruction_sets(), *(_engine_param(*one) for one in _ON_GPU[:2])])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every engine of native code in turn, that of the CPU with every instruction set."""
    on_cpu = isinstance(request.param, str)
    name, place = ("native", "cpu") if on_cpu else request.param
    monkeypatch.setattr(problems, "DEVICE", place)
    with using_instruction_set(request.param) if on_cpu else nullcontext():
        yield name


@pytest.fixture
def bounded(interruptible: None) -> Iterator[None]:
    """Ten minutes, after which a test fails that would never end: for runs that only a rule ends."""

    def fail(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the test has not ended within ten minutes")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Clock:
    """What a run has for the time, which passes only where a test adds to it."""

    def __init__(self) -> None:
        self.now = time.perf_counter()

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all runs."""
    clock = Clock()
    monkeypatch.setattr(run_module, "time", clock)
    return clock


AmidInterval: TypeAlias = Callable[[Callable[[], object]], None]


@pytest.fixture
def amid_interval(monkeypatch: pytest.MonkeyPatch) -> AmidInterval:
    """Have a function called when a run first pauses before the step that it was asked for."""

    def call(function: Callable[[], object]) -> None:
        waiting, make_slice = [function], course.make_slice

        def make_and_call(request: course.Request) -> Outcome:
            outcome = make_slice(request)
            if outcome == Outcome.paused and waiting:
                waiting.pop()()
            return outcome

        monkeypatch.setattr(course, "make_slice", make_and_call)

    return call


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Blocks]:
    """A GPU that makes the runs of `fit_many` in blocks, on the CPU."""

    def all_on_gpu(trials: list[Trial]) -> tuple[list[int], dict[torch.device, list[int]]]:
        return [], {torch.device("cuda"): list(range(len(trials)))}

    module = sys.modules[fit_many.__module__]
    monkeypatch.setattr(module, "_by_device", all_on_gpu)
    monkeypatch.setattr(module, "_multiprocessors", lambda gpu: 132)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda gpu: None)
    with blocks_on_cpu() as blocks:
        yield blocks
