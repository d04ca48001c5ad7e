"""Figures in README.md, bench/README.md and docs/ are those of the published results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import record, tables
from bench.result_tables import TABLES, faster, figures
from tests.killing import ROOT

NUMBER_WITH_UNIT = re.compile(r"\d[\d.,]* ?(?:%|ms\b|µs\b|s\b|[GM]B\b|GFLOP|minutes|hours|bytes)")


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    """What every page must hold."""
    return tables.pages()


def test_regenerating_changes_nothing(pages: dict[Path, str]) -> None:
    stale = [str(page) for page, text in pages.items() if page.read_text("utf-8") != text]
    assert not stale, "run `python -m bench.tables`"


def test_the_front_page_has_no_table_but_the_generated_one() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert tables.BLOCK.search(text)
    assert "\n|" not in tables.BLOCK.sub("", text)


def test_the_front_page_fits_two_screens() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_the_template_of_the_benchmarks_types_neither_table_rows_nor_measurements() -> None:
    text = tables.TEMPLATE.read_text("utf-8")
    assert "\n|" not in text
    typed = NUMBER_WITH_UNIT.findall(re.sub(r"\{[{%#].*?[}%#]\}", "", text, flags=re.DOTALL))
    # Of the planner's count, of the training part, and of the decays that the table names.
    assert sorted(typed) == ["10%", "20%", "90%"]


def test_every_kind_of_table_is_on_a_page(pages: dict[Path, str]) -> None:
    blocks = {found["name"] for text in pages.values() for found in tables.BLOCK.finditer(text)}
    in_template = set(re.findall(r'table\("([\w-]+)"\)', tables.TEMPLATE.read_text("utf-8")))
    assert blocks | in_template == TABLES.keys()


def test_blocks_of_a_page_are_replaced_and_the_rest_stays() -> None:
    page = "before\n<!-- bench.tables: dtypes -->\n| old |\n<!-- end -->\nafter\n"
    assert tables.with_tables(page) == page.replace("| old |", "\n" + TABLES["dtypes"]() + "\n")


def test_a_file_that_names_no_machine_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    for day, name in enumerate(
        ("steps", "zen4-2-cores-steps", "zen4-2-cores-other-steps", "zen4-2-cores"), 1
    ):
        (tmp_path / f"2026-01-0{day}-{name}.json").write_text(f'{{"day": {day}}}')
    found = record.latest.__wrapped__
    assert [found(kind).numbers["day"] for kind in ("steps", "other-steps", "sweep")] == [2, 3, 4]
    with pytest.raises(LookupError, match="DATE-MACHINE-convex"):
        found("convex")


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(1234.5, 3, "1,230"), (0.012345, 2, "0.012"), (99.96, 3, "100"), (0.0, 3, "0"), (9.996, 3, "10.0")],
)
def test_figures_have_significant_digits(value: float, digits: int, shown: str) -> None:
    assert figures(value, digits) == shown


def test_ratios_are_of_other_to_own() -> None:
    assert faster(10.0, 4.0, "ms") == "10.0 ms (2.5×)"


def test_benchmarks_write_the_kinds_that_tables_are_made_of() -> None:
    def named(pattern: str, files: list[Path]) -> set[str]:
        return {kind for file in files for kind in re.findall(pattern, file.read_text("utf-8"))}

    written = named(r'results_file\("([\w-]+)"\)', sorted((ROOT / "bench").glob("*.py")))
    read = named(r'(?:latest|numbers|source)\("([\w-]+)"', [ROOT / "bench/result_tables.py", tables.TEMPLATE])
    # The largest size of the rivals has a file of its own.
    assert {kind.removesuffix("-100m") for kind in read} <= written
