"""The page of all results, ``report.html``, and the same for machines, ``results.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Section, Verdict
from dmf_fast.files.text import json_text, write_whole
from dmf_fast.page.rendering import page_environment

PAGE, RESULTS = "report.html", "results.json"

TimedSections = Mapping[str, tuple[Section, float]]
"""The section and the seconds of every experiment, by name, in the order of the page."""


def write_report(sections: TimedSections, folder: Path, facts: Mapping[str, str]) -> Path:
    """Write the page and the results into a folder, which is created, and return where the page is.

    The page is a single file that loads nothing and runs no script. Consecutive sections of a group share a
    heading. The same arguments give the same bytes.

    Args:
        sections: the results, by the names of `EXPERIMENTS`.
        folder: where to write; earlier results are replaced.
        facts: about the run as a whole, by name; see `run_facts`.

    Raises:
        OSError: the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> section = Section("Norms", "How they grow.", settings={}, claims=[])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report({"norms": (section, 1.5)}, Path(folder), facts={}).name
        'report.html'

    """
    write_whole(folder / RESULTS, json_text(results(sections, facts)) + "\n")
    write_whole(folder / PAGE, _page(sections, facts))
    return folder / PAGE


def results(sections: TimedSections, facts: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of the page without figures, ready for JSON."""
    return {
        "facts": dict(facts),
        "seconds": _total_seconds(sections),
        "sections": {
            name: {
                "group": section.group,
                "title": section.title,
                "paper": section.paper,
                "introduction": section.introduction,
                "settings": dict(section.settings),
                "claims": [asdict(claim) for claim in section.claims],
                "figures": [picture.caption for picture in section.figures],
                "tables": [
                    {"caption": result.caption, "rows": result.table.to_pylist()} for result in section.tables
                ],
                "work": [asdict(work) for work in section.work],
                "seconds": seconds,
            }
            for name, (section, seconds) in sections.items()
        },
    }


def _page(sections: TimedSections, facts: Mapping[str, str]) -> str:
    environment = page_environment("dmf_fast.experiments.page")
    environment.filters["tally"] = _tally
    verdicts = Counter(claim.verdict for section, _ in sections.values() for claim in section.claims)
    return environment.get_template(f"{PAGE}.jinja").render(
        groups=_groups(sections),
        sections=sections,
        facts=facts,
        verdicts=verdicts,
        own=sum(claim.source.startswith(OWN) for section, _ in sections.values() for claim in section.claims),
        seconds=_total_seconds(sections),
    )


def _groups(sections: TimedSections) -> list[tuple[str, TimedSections]]:
    """Return every heading with its sections: consecutive ones of the same group."""
    groups = groupby(sections.items(), lambda item: item[1][0].group)
    return [(group or "Experiments", dict(members)) for group, members in groups]


def _tally(section: Section) -> str:
    """Return the number of claims per verdict, in words."""
    verdicts = Counter(claim.verdict for claim in section.claims)
    return ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in get_args(Verdict) if verdict in verdicts)


def _total_seconds(sections: TimedSections) -> float:
    return sum(seconds for _, seconds in sections.values())
