"""Runs all experiments in turn and writes the page of their results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from dmf_fast.checks import one_of
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.files.atomic import make_folder
from dmf_fast.files.reading import reading
from dmf_fast.files.records import load_record, save_record

GROUPS = {
    "Arora, Cohen, Hu & Luo 2019": (
        "recovery.entries",
        "recovery.scales",
        "recovery.figure2",
        "dynamics.figure3",
        "dynamics.trajectories",
        "recovery.sensing",
        "recovery.starts",
    ),
    "Norms or rank": ("norms.commuting", "norms.unbounded", "norms.rank_one", "norms.connectivity"),
    "One singular value after the other": ("dynamics.greedy", "dynamics.plateaus", "dynamics.incremental"),
    "Width and penalties": ("recovery.widths", "norms.norm_ratio"),
    "A picture, and ratings": ("recovery.images", "ratings.movielens", "ratings.ratings"),
}
"""The modules under every heading of the page; each module has ``run(reproduction) -> Section``."""

EXPERIMENTS = {
    module.rpartition(".")[2]: f"dmf_fast.experiments.{module}"
    for modules in GROUPS.values()
    for module in modules
}
"""Modules by name, in the order of the page."""

_GROUP_OF = {module.rpartition(".")[2]: group for group, modules in GROUPS.items() for module in modules}


def reproduce(
    names: Sequence[str], reproduction: Reproduction, out: Path, *, date: datetime | None = None
) -> dict[str, tuple[Section, float]]:
    """Run experiments in turn and write ``report.html`` and ``results.json`` into ``out`` after each.

    An interrupted call leaves a page with the finished experiments; the same call resumes.

    Args:
        names: keys of `EXPERIMENTS`.
        reproduction: how they are run, and where finished runs are kept.
        out: folder of the page.
        date: shown on the page; by default the time of the call.

    Returns:
        The section of every experiment and the seconds spent on it, including earlier calls with the same
        ``reproduction.folder``, whose runs are not repeated.

    Raises:
        ValueError: a name is not in `EXPERIMENTS`, or an experiment cannot use its data.
        OSError: a folder cannot be written to.

    """
    from dmf_fast.experiments.page.report import (
        write_report,
    )  # needs Jinja2, which is only needed to write a page
    from dmf_fast.experiments.page.run_facts import run_facts

    _check(names)
    make_folder(out)
    # Import everything first, so that a failing import does not stop a run after an hour.
    experiments = {name: import_module(EXPERIMENTS[name]).run for name in names}
    facts = run_facts(reproduction.extent, date=date)
    times = _TimeBook(reproduction)
    sections: dict[str, tuple[Section, float]] = {}
    for name, run in (bar := tqdm(experiments.items(), unit="experiment", disable=reproduction.hides_bars)):
        bar.set_description(name)
        with times.timing(name):
            section = replace(run(reproduction), group=_GROUP_OF.get(name, ""))
        sections[name] = section, times.seconds[name]
        write_report(sections, out, facts)
    return sections


def _check(names: Sequence[str]) -> None:
    for name in names:
        one_of("names", name, EXPERIMENTS)


class _TimeBook:
    """Seconds spent on every experiment, over all calls with the same folder, which keeps the record."""

    def __init__(self, reproduction: Reproduction) -> None:
        self._file = reproduction.folder / f"seconds-{reproduction.extent}.json"
        self.seconds: dict[str, float] = {}
        if self._file.exists():
            with reading(self._file, "a record of seconds", "remove it"):
                self.seconds = load_record(self._file, dict[str, float])

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the time that the block takes, even if it fails or is interrupted."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            save_record(self._file, self.seconds)
