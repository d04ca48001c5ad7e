"""The page of results and its twin for machines."""

from __future__ import annotations

import base64
import functools
import io
import json
import math
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.image import imread

from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.report import write_report
from dmf_fast.experiments.page.run_facts import run_facts
from dmf_fast.experiments.page.section import Claim, Section, Verdict, Work
from dmf_fast.figure_style import DEPTH_STYLES, add_legend, draw_band, new_figure
from dmf_fast.page.content import Picture, ResultTable
from dmf_fast.page.rendering import shown_duration, shown_number
from tests.pages import Page, assert_self_contained

VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "not tested")
FACTS = run_facts("quick", date=datetime(2026, 1, 2, 15, 30))


@functools.cache
def picture(caption: str = "Error by depth.") -> Picture:
    figure, axes = new_figure(columns=2)
    for panel in axes.flat:
        draw_band(panel, [1, 2, 3], [0, 1, 2], [1, 2, 3], [2, 3, 4], DEPTH_STYLES[2], "depth 2")
        panel.set(yscale="log", title="$x < y$", xlabel='a "quoted" & <tagged> label')
        add_legend(panel)
    return Picture.of(figure, caption)


def section(title: str = "Figure 1", **parts: object) -> Section:
    claims = [
        Claim(f"{title} shows <b>{verdict}</b> & more.", "Arora et al.", "error < 1e-3", verdict, "5 > 3")
        for verdict in VERDICTS
    ]
    table = pa.table({
        "initial_scale": [1e-3, 1e-6],
        "steps": [1_234_567, 8],
        "error": [0.123456, math.nan],
        "rule": ["<adam>", None],
        "ended": [True, False],
        "|W_11|": [2, 3],
    })  # fmt: skip
    standard = {
        "introduction": "First.\n\nSecond.",
        "settings": {"seeds": "0 … 4"},
        "claims": claims,
        "figures": [picture()],
        "tables": [ResultTable(table, "Errors <by> scale.")],
        "work": [Work("completion", (100, 100, 100), 2_000, 5)],
    }
    return Section(title, **(standard | parts))  # type: ignore[arg-type]


@pytest.fixture
def sections() -> dict[str, tuple[Section, float]]:
    return {"figure1": (section(), 75.0), "norms": (section("Norms"), 1.25)}


@pytest.fixture
def page(sections: dict[str, tuple[Section, float]], tmp_path: Path) -> Page:
    return Page(write_report(sections, tmp_path / "new" / "folder", FACTS).read_text(encoding="utf-8"))


def test_it_says_every_claim_with_source_rule_evidence_and_verdict(page: Page) -> None:
    for title in ("Figure 1", "Norms"):
        for verdict in VERDICTS:
            # Once in the table at the top, once in its section.
            assert page.text.count(f"{title} shows <b>{verdict}</b> & more.") == 2
    assert page.text.count("error < 1e-3") == page.text.count("5 > 3") == 6
    badges = Counter(value for value in page.values("class") if value.startswith("badge"))
    assert badges == {"badge reproduced": 4, "badge not-reproduced": 4, "badge not-tested": 4}
    assert "6 statements, decided by stated rules" in page.text
    assert "6 are drawn from the papers and 0 are of this project:" in page.text
    assert "2 reproduced, 2 not reproduced, 2 not tested." in page.text


def test_it_counts_the_statements_of_this_project(tmp_path: Path) -> None:
    own = Claim("It is so.", f"{OWN}, after others", "a rule", "reproduced", "seen")
    sections = {"one": (section(claims=[own, replace(own, source="Others 2020")]), 1.0)}
    page = Page(write_report(sections, tmp_path, FACTS).read_text(encoding="utf-8"))
    assert "1 are drawn from the papers and 1 are of this project:" in page.text


def test_its_contents_list_the_sections_by_group(tmp_path: Path) -> None:
    sections = {
        name: (section(name, group=group), 1.0)
        for name, group in (("a", "First <paper>"), ("b", "First <paper>"), ("c", ""), ("d", "Second"))
    }
    page = Page(write_report(sections, tmp_path, {}).read_text(encoding="utf-8"))
    before, _, after = page.text.partition("All statements")
    contents = [line.strip() for line in before.partition("Contents")[2].splitlines() if line.strip()]
    a, b, c, d = (f"{name} 1 reproduced, 1 not reproduced, 1 not tested" for name in "abcd")
    assert contents == ["First <paper>", a, b, "Experiments", c, "Second", d]
    headings = after.splitlines()
    assert [headings.count(group) for group in ("First <paper>", "Experiments", "Second")] == [1, 1, 1]


def test_a_section_names_its_paper(tmp_path: Path) -> None:
    text = write_report({"a": (section(paper="Who & When"), 1.0)}, tmp_path, {}).read_text(encoding="utf-8")
    assert text.count('<p class="paper">Who &amp; When</p>') == 1


def test_raster_images_of_figures_are_part_of_the_page(tmp_path: Path) -> None:
    figure, ((axes,),) = new_figure(columns=1)
    pixels = np.array([[0, 51, 255], [102, 0, 204]]) / 255
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="none")
    drawn = section(figures=[Picture.of(figure, "An image.")])
    page = Page(write_report({"a": (drawn, 1.0)}, tmp_path, {}).read_text(encoding="utf-8"))
    (policy,) = (attrs["content"] for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    (link,) = (attrs["xlink:href"] or "" for tag, attrs in page.tags if tag == "image")
    kind, _, data = link.partition(",")
    assert kind == "data:image/png;base64"
    shown = imread(io.BytesIO(base64.b64decode(data)), format="png")[..., 0]
    assert sorted(shown.round(4).tolist()) == sorted(pixels.astype(np.float32).round(4).tolist())


def test_it_says_what_was_run_and_how_long_it_took(page: Page) -> None:
    assert "2026-01-02 15:30" in page.text
    assert "quick: fewer seeds and steps" in page.text
    assert all(fact in page.text for fact in FACTS.values())
    assert [page.text.count(f"Time spent: {time}.") for time in ("1 min 16 s", "1 min 15 s", "1.2 s")] == [
        1
    ] * 3
    assert "0 … 4" in page.text


def test_it_loads_nothing_and_runs_nothing(page: Page) -> None:
    assert_self_contained(page)
    assert page.values("href", "xlink:href")


def test_ids_are_unique_and_every_link_has_its_end(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {"figure1", "norms", "figure1-claim-1"} <= set(ids)
    inner = [
        value.split("url(#")[1].split(")")[0]
        for value in page.values("clip-path", "style")
        if "url(#" in value
    ]
    assert inner
    assert {link.removeprefix("#") for link in page.values("href", "xlink:href")} | set(inner) <= set(ids)


def test_what_an_experiment_says_is_text_not_markup(page: Page) -> None:
    assert "b" not in {tag for tag, _ in page.tags}
    assert "adam" not in {tag for tag, _ in page.tags}
    assert "<adam>" in page.text
    assert "Errors <by> scale." in page.text


def test_figures_are_inline_with_a_name_and_their_text_is_text(page: Page) -> None:
    images = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert [(image["role"], image["aria-label"]) for image in images] == [("img", "Error by depth.")] * 2
    assert page.text.count('a "quoted" & <tagged> label') == 4
    assert page.text.count("depth 2") == 4


def test_numbers_of_tables_have_three_digits_and_integers_all(page: Page) -> None:
    cells = [
        text for text in ("1.00e-03", "1.00e-06", "1,234,567", "0.123", "–", "yes", "no") if text in page.text
    ]
    assert cells == ["1.00e-03", "1.00e-06", "1,234,567", "0.123", "–", "yes", "no"]
    assert "initial scale" in page.text
    assert "|W_11|" in page.text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (-12_345, "-12,345"),
        (0.0, "0"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (99_950.0, "100,000"),
        (999_499.0, "999,000"),
        (999_600.0, "1.00e+06"),
        (-0.01, "-0.0100"),
        (0.009999, "0.0100"),
        (0.00099, "9.90e-04"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "–"),
    ],
)  # fmt: skip
def test_a_number_is_shown(value: float, shown: str) -> None:
    assert shown_number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3_599.6, "1 h 00 min"), (7_260, "2 h 01 min")],
)
def test_a_duration_is_shown(seconds: float, shown: str) -> None:
    assert shown_duration(seconds) == shown


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        drawn = section(figures=[picture.__wrapped__()])
        pages.append(write_report({"figure1": (drawn, 2.0)}, tmp_path / name, FACTS))
    for name in ("report.html", "results.json"):
        first, second = [(page.parent / name).read_bytes() for page in pages]
        assert first == second


def test_machines_read_the_same(sections: dict[str, tuple[Section, float]], tmp_path: Path) -> None:
    page = write_report(sections, tmp_path, FACTS)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "results.json"}

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    read = json.loads(page.with_name("results.json").read_text(), parse_constant=refuse)
    assert read["facts"] == FACTS
    assert read["seconds"] == 76.25
    assert list(read["sections"]) == ["figure1", "norms"]
    first = read["sections"]["figure1"]
    assert [claim["verdict"] for claim in first["claims"]] == list(VERDICTS)
    assert (first["group"], first["paper"]) == ("", "")
    assert first["claims"][0]["rule"] == "error < 1e-3"
    assert first["seconds"] == 75.0
    assert first["settings"] == {"seeds": "0 … 4"}
    assert first["figures"] == ["Error by depth."]
    assert first["work"] == [{"task": "completion", "dims": [100, 100, 100], "observed": 2_000, "steps": 5}]
    assert first["tables"][0]["rows"][1] == {
        "initial_scale": 1e-6, "steps": 8, "error": None, "rule": None, "ended": False, "|W_11|": 3,
    }  # fmt: skip


def test_a_section_without_figures_tables_and_settings_has_no_empty_parts(tmp_path: Path) -> None:
    bare = section(figures=(), tables=(), settings={})
    text = write_report({"movielens": (bare, 0.0)}, tmp_path, {}).read_text(encoding="utf-8")
    assert "<figure>" not in text
    assert "Settings" not in text
