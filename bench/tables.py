"""`python -m bench.tables`: writes bench/README.md and the tables of other pages from `bench/results/`.

bench/README.md is bench/README.md.jinja with the numbers of the newest published results of each kind. In
README.md and docs/*.md the lines between ``<!-- bench.tables: NAME -->`` and ``<!-- end -->`` are replaced by
the table of that name (`TABLES`). Measures nothing.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import jinja2

from bench.record import latest
from bench.result_tables import TABLES, figures, machine

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "bench" / "README.md"
TEMPLATE = PAGE.with_suffix(".md.jinja")
BLOCK = re.compile(r"(<!-- bench\.tables: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def source(kind: str, command: str) -> str:
    """Return the line that says how, where and when a table was measured."""
    result = latest(kind)
    day, commit = result.numbers["date"], result.numbers["commit"]
    file = f"[results](results/{result.file.name})"
    return f"Measured by `{command}` on {machine(result)}, {day}, commit `{commit}` ({file})."


def benchmarks_page() -> str:
    """Return bench/README.md."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {"figures": figures}
    page = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        table=lambda name: TABLES[name](), numbers=lambda kind: latest(kind).numbers, source=source
    )
    return "\n\n".join(map(_filled, page.strip().split("\n\n"))) + "\n"


def _filled(paragraph: str) -> str:
    """Return a paragraph with lines of equal length; tables, headings and pictures stay as they are."""
    if paragraph.lstrip().startswith(("|", "#", "!")):
        return paragraph.strip()
    return textwrap.fill(paragraph, 110, break_long_words=False, break_on_hyphens=False)


def with_tables(text: str) -> str:
    """Return a page with the tables between its comments made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found['name']]()}\n\n{found[3]}", text)


def pages() -> dict[Path, str]:
    """Return what every page must hold."""
    others = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {PAGE: benchmarks_page()} | {page: with_tables(page.read_text("utf-8")) for page in others}


def main() -> None:
    for page, text in pages().items():
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
