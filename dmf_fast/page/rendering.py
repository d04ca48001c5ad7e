"""Renders templates to pages that load nothing and run no scripts."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple
from xml.dom import minidom

import pyarrow as pa
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dmf_fast.page.content import Picture, ResultTable


def page_environment(package: str) -> Environment:
    """Return the environment for the templates of a package, which may extend those of this one.

    Inserted text is escaped: identifiers and file names may contain anything.

    >>> page_environment("dmf_fast.page").from_string("{{ name }}").render(name="<b>")
    '&lt;b&gt;'
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, package_path="") for name in (package, "dmf_fast.page")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": _with_code,
        "columns": _columns,
        "duration": shown_duration,
        "inline_svg": _inline_svg,
    }
    return environment


def shown_number(value: float, digits: int = 3) -> str:
    """Return a number as text for people: integers in full, others with ``digits`` significant digits.

    >>> [shown_number(value) for value in (12345, 12345.6, 0.5, 0.0000123456, float("nan"))]
    ['12,345', '12,300', '0.500', '1.23e-05', '–']
    """
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "–"
    if value == 0 or math.isinf(value):
        return str(value).replace("inf", "∞").removesuffix(".0")
    rounded = float(f"{value:.{digits}g}")
    if not 1e-2 <= abs(rounded) < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def shown_duration(seconds: float) -> str:
    """Return seconds as text, in common units.

    >>> [shown_duration(seconds) for seconds in (0.234, 75, 3_725)]
    ['0.2 s', '1 min 15 s', '1 h 02 min']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


class _Column(NamedTuple):
    """A column of a table as the page shows it; ``bars`` are lengths from 0 to 1."""

    heading: str
    kind: str
    cells: list[str]
    bars: list[float]


def _columns(result: ResultTable) -> list[_Column]:
    shown = []
    for name, values in zip(result.table.column_names, result.table.columns, strict=True):
        numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        numbers = values.to_pylist()
        cells = [_cell(value, result.digits) for value in numbers]
        heading = name.replace("_", " ") if name.isascii() and name.isidentifier() else name  # not of σ_1
        bars = _bars(numbers) if name in result.bars else []
        shown.append(_Column(heading, "number" if numeric else "text", cells, bars))
    return shown


def _bars(numbers: list[float | None]) -> list[float]:
    sizes = [abs(number or 0.0) for number in numbers]
    longest = max(sizes, default=0.0) or 1.0
    return [round(size / longest, 4) for size in sizes]


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown_number(value, digits) if isinstance(value, int | float) else str(value)


def _with_code(text: str) -> Markup:
    """Return a text in which parts between backticks are marked up as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _inline_svg(picture: Picture, prefix: str) -> Markup:
    """Return a figure as an element of the page, with a prefix for all of its ids.

    Matplotlib uses the same ids in every figure, but ids must be unique on a page.
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
