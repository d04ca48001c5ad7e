"""Experiments run in turn, with a page after each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType

import pytest

from dmf_fast.experiments import reproduce as module
from dmf_fast.experiments.page.section import Claim, Section
from dmf_fast.experiments.reproduce import EXPERIMENTS, _TimeBook, reproduce
from dmf_fast.experiments.reproduction import Reproduction

DATE = datetime(2026, 1, 2, 15, 30)
Experiment = Callable[[Reproduction], Section]


def sound(reproduction: Reproduction) -> Section:
    claim = Claim("Deeper is better.", "Arora et al.", "error falls", "reproduced", "0.1 < 0.2")
    return Section("Sound", "Ends well.", {"quick": str(reproduction.quick)}, [claim])


def stopped(reproduction: Reproduction) -> Section:
    raise KeyboardInterrupt


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have EXPERIMENTS be the given functions, each the ``run`` of a module of its own."""

    def replace(**experiments: Experiment) -> None:
        for name, run in experiments.items():
            fake_module = ModuleType(f"fake_{name}")
            fake_module.run = run  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, fake_module.__name__, fake_module)
        monkeypatch.setattr(module, "EXPERIMENTS", {name: f"fake_{name}" for name in experiments})

    return replace


def read(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "results.json").read_text()))


def test_they_run_in_the_order_of_the_names_with_the_given_arguments(
    fake: Callable[..., None], tmp_path: Path
) -> None:
    seen = []

    def noted(reproduction: Reproduction) -> Section:
        seen.append(reproduction)
        return sound(reproduction)

    fake(first=noted, second=noted)
    reproduction = Reproduction(tmp_path / "runs", quick=True)

    sections = reproduce(["second", "first"], reproduction, tmp_path / "out", date=DATE)

    assert seen == [reproduction, reproduction]
    assert list(sections) == ["second", "first"]
    assert sections["first"][0].settings == {"quick": "True"}
    assert all(0 < seconds < 60 for _, seconds in sections.values())
    assert "Deeper is better." in (tmp_path / "out" / "report.html").read_text()
    assert read(tmp_path / "out")["facts"]["date"] == "2026-01-02 15:30"  # type: ignore[index]


def test_an_interrupted_call_leaves_a_page_of_the_sections_so_far(
    fake: Callable[..., None], tmp_path: Path
) -> None:
    fake(first=sound, second=stopped, third=sound)
    with pytest.raises(KeyboardInterrupt):
        reproduce(["first", "second", "third"], Reproduction(tmp_path / "runs"), tmp_path)
    assert list(read(tmp_path)["sections"]) == ["first"]  # type: ignore[call-overload]
    assert 'id="first"' in (tmp_path / "report.html").read_text()
    assert 'id="second"' not in (tmp_path / "report.html").read_text()


def test_time_of_earlier_calls_counts_an_interrupted_one_too(
    fake: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 100.0, 200.0, 203.0, 300.0, 301.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    fake(first=stopped)
    with pytest.raises(KeyboardInterrupt):
        reproduce(["first"], Reproduction(tmp_path, progress=False), tmp_path)
    fake(first=sound)
    assert reproduce(["first"], Reproduction(tmp_path, progress=False), tmp_path)["first"][1] == 103.0
    quick = Reproduction(tmp_path, quick=True, progress=False)
    assert reproduce(["first"], quick, tmp_path)["first"][1] == 1.0


def test_an_unknown_name_is_refused_before_anything_runs(fake: Callable[..., None], tmp_path: Path) -> None:
    fake(first=stopped)
    with pytest.raises(ValueError, match=r"`names` must be one of first, got 'third'"):
        reproduce(["first", "third"], Reproduction(tmp_path), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_module_that_cannot_be_imported_stops_before_anything_runs(
    fake: Callable[..., None], tmp_path: Path
) -> None:
    fake(first=stopped)
    module.EXPERIMENTS["second"] = "fake_second_that_is_not_there"
    with pytest.raises(ModuleNotFoundError):
        reproduce(["first", "second"], Reproduction(tmp_path), tmp_path)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_there(name: str) -> None:
    run = import_module(EXPERIMENTS[name]).run
    assert list(signature(run).parameters) == ["reproduction"]


def test_the_time_of_an_experiment_is_that_of_all_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 13.0, 20.0, 20.5, 30.0, 31.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    for quick, expected in ((True, 3.0), (True, 3.5), (False, 1.0)):
        book = _TimeBook(Reproduction(tmp_path / "runs", quick=quick))
        with book.timing("norms"):
            pass
        assert book.seconds == {"norms": expected}
    kept = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert kept == ["seconds-full.json", "seconds-quick.json"]
