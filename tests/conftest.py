"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from dmf_fast import cuda, info
from dmf_fast.ops import planner
from dmf_fast.training.interrupt import DeferredInterrupt
from tests import problems

# Examples share the function-scoped fixtures below without harm; a noisy machine must not fail a test, and
# neither must the luck of a draw: the same examples are drawn every time (`--hypothesis-seed` draws others).
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("default")
# Where only counts whether a test fails, the least example that makes it fail is not worth its time.
settings.register_profile(
    "unshrunk", settings.get_profile("default"), phases=(Phase.explicit, Phase.generate)
)

# Tests that send signals expect them to arrive, also where `nohup` or a shell's `&` had them ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# One thread a test process, here for fixtures of modules: two processes with two spinning threads each would
# fight for two cores. Tests that are about threads take the fixture `threads`.
torch.set_num_threads(1)


def find_movielens() -> Path | None:
    """Return where the user keeps MovieLens 100K, which may not be redistributed; None for nowhere."""
    repository = Path(__file__).resolve().parent.parent
    candidates = [Path(os.environ["DMF_FAST_DATA"])] if "DMF_FAST_DATA" in os.environ else []
    candidates.append(repository.parent / "shared" / "data")
    folders = [candidate / "ml-100k" for candidate in candidates]
    return next((folder for folder in folders if (folder / "u.data").is_file()), None)


@pytest.fixture(scope="session")
def movielens_folder() -> Path:
    """The folder of MovieLens 100K; tests skip where it is not."""
    folder = find_movielens()
    if folder is None:
        pytest.skip("MovieLens 100K is not here: set DMF_FAST_DATA to the folder that holds ml-100k/")
    return folder


HAS_GPU = cuda.missing_reason() is None and torch.cuda.is_available()
GPU = [pytest.param("cuda", marks=pytest.mark.cuda)] if HAS_GPU else []


def on_gpu(function: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs a GPU."""
    reason = f"no GPU here: {cuda.missing_reason() or 'torch finds none'}"
    return pytest.mark.cuda(pytest.mark.skipif(not HAS_GPU, reason=reason)(function))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> str:
    """Draw problems on the GPU."""
    monkeypatch.setattr(problems, "DEVICE", "cuda")
    return "cuda"


@pytest.fixture(params=["cpu", *GPU])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The CPU and, where there is one, the GPU: problems are drawn there."""
    monkeypatch.setattr(problems, "DEVICE", request.param)
    return str(request.param)


@contextmanager
def using_instruction_set(name: str) -> Iterator[None]:
    """Have kernels use one instruction set meanwhile."""
    before = info.active_instruction_set()
    info.set_instruction_set(name)
    yield
    info.set_instruction_set(before)


@pytest.fixture(params=[*info.available_instruction_sets(), *GPU])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every instruction set of this machine in turn and, where there is one, the GPU."""
    if request.param == "cuda":
        monkeypatch.setattr(problems, "DEVICE", "cuda")
        yield "cuda"
    else:
        with using_instruction_set(request.param):
            yield request.param


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handler of Ctrl-C, also where tests run in the background and SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def press_ctrl_c(interruptible: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Send SIGINT to the main thread, from any thread, and wait until a run has noted it."""
    handled, note = threading.Semaphore(0), DeferredInterrupt.note

    def noted(interrupt: DeferredInterrupt, number: int, frame: FrameType | None) -> None:
        try:
            note(interrupt, number, frame)
        finally:
            handled.release()

    def press() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert handled.acquire(timeout=600)

    monkeypatch.setattr(DeferredInterrupt, "note", noted)
    return press


@pytest.fixture(params=["chosen plan", "split"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The planner's choice, which forms small products, and a split wherever the chain has one."""
    if request.param == "split":
        chosen = planner.costs_on
        monkeypatch.setattr(planner, "costs_on", lambda *on: replace(chosen(*on), split=-1e15))
    planner._plan_chain.cache_clear()
    yield request.param
    planner._plan_chain.cache_clear()


@pytest.fixture(params=["split", "formed"])
def descent_plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The plan that splits the chain, wherever there is a split, and the one that forms the matrix."""
    cost = -1e15 if request.param == "split" else 1e15
    monkeypatch.setattr(planner, "DESCENT", replace(planner.DESCENT, split=cost))
    return str(request.param)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch has one thread and the same seed when a test begins, whatever the one before has done."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(1)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, one_thread: None) -> int:
    """One thread and two."""
    torch.set_num_threads(request.param)
    return int(request.param)
