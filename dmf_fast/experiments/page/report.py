"""The page of all results, ``report.html``, and next to it the same for machines, ``results.json``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args
from xml.dom import minidom

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Picture, Section, Verdict
from dmf_fast.files.text import json_text, write_whole

PAGE, RESULTS = "report.html", "results.json"

TimedSections = Mapping[str, tuple[Section, float]]
"""The section and the seconds of every experiment, by its name, in the order of the page."""


def write_report(sections: TimedSections, folder: Path, facts: Mapping[str, str]) -> Path:
    """Write the page and the results into a folder, which is created, and return where the page is.

    The page is one file: it loads nothing and runs no script. Neighbors of one group share a heading. The
    same arguments give the same bytes.

    Args:
        sections: what came out; the names are those of `EXPERIMENTS`.
        folder: earlier results in it are replaced.
        facts: name to text, what the page says about the run as a whole; see `run_facts`.

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
    """Return what the page says, figures left out, ready for JSON."""
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


def shown_number(value: float) -> str:
    """Return a number as people read it: integers in full, others with three significant digits.

    >>> [shown_number(value) for value in (12345, 12345.6, 0.5, 0.0000123456, float("nan"))]
    ['12,345', '12,300', '0.500', '1.23e-05', '–']
    """
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "–"
    if value == 0 or math.isinf(value):
        return str(value).replace("inf", "∞").removesuffix(".0")
    rounded = float(f"{value:.3g}")
    if not 1e-2 <= abs(rounded) < 1e6:
        return f"{value:.2e}"
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def shown_duration(seconds: float) -> str:
    """Return seconds in the units that people say.

    >>> [shown_duration(seconds) for seconds in (0.234, 75, 3_725)]
    ['0.2 s', '1 min 15 s', '1 h 02 min']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _page(sections: TimedSections, facts: Mapping[str, str]) -> str:
    environment = Environment(
        loader=PackageLoader("dmf_fast.experiments.page", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "columns": _columns,
        "duration": shown_duration,
        "inline_svg": _inline_svg,
        "tally": _tally,
    }
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
    """Return every heading and the sections under it: neighbors of one group."""
    groups = groupby(sections.items(), lambda item: item[1][0].group)
    return [(group or "Experiments", dict(members)) for group, members in groups]


def _tally(section: Section) -> str:
    """Return how many claims have which verdict, in words."""
    verdicts = Counter(claim.verdict for claim in section.claims)
    return ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in get_args(Verdict) if verdict in verdicts)


def _total_seconds(sections: TimedSections) -> float:
    return sum(seconds for _, seconds in sections.values())


class _Column(NamedTuple):
    """A column of a table as the page shows it."""

    heading: str
    kind: str
    cells: list[str]


def _columns(table: pa.Table) -> list[_Column]:
    shown = []
    for name, values in zip(table.column_names, table.columns, strict=True):
        numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        cells = [_cell(value) for value in values.to_pylist()]
        heading = name.replace("_", " ") if name.isascii() and name.isidentifier() else name  # not of σ_1
        shown.append(_Column(heading, "number" if numeric else "text", cells))
    return shown


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown_number(value) if isinstance(value, int | float) else str(value)


def _inline_svg(picture: Picture, prefix: str) -> Markup:
    """Return a figure as an element of the page, all of its ids led by a prefix.

    Matplotlib calls the parts of every figure the same, but a page may have every id once only.
    """
    element = minidom.parseString(picture.svg).documentElement
    assert element is not None
    for part in (element, *element.getElementsByTagName("*")):
        for name, value in part.attributes.items():
            if name == "id":
                part.setAttribute(name, f"{prefix}-{value}")
            elif name == "xlink:href" and value.startswith("#"):  # not the data of a raster image
                part.setAttribute(name, f"#{prefix}-{value[1:]}")
            elif "url(#" in value:
                part.setAttribute(name, value.replace("url(#", f"url(#{prefix}-"))
    element.setAttribute("role", "img")
    element.setAttribute("aria-label", picture.caption)
    return Markup(element.toxml())
