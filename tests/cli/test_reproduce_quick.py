"""``dmf-fast reproduce all --quick`` with the real experiments, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dmf_fast.experiments.page.papers import OWN
from tests.conftest import find_movielens

# What papers claim must be seen in every run; on real ratings (movielens) the data decide.
OF_THE_PAPERS = (
    "entries", "scales", "figure2", "figure3", "sensing", "commuting", "unbounded",
    "rank_one", "connectivity", "greedy", "plateaus", "incremental",
)  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, with MovieLens where the tests find it."""
    folder = tmp_path_factory.mktemp("paper")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "dmf_fast.cli",
        "reproduce",
        "all",
        "--quick",
        "--quiet",
        "--out",
        folder,
    ]
    movielens = find_movielens()
    if movielens is not None:
        command += ["--movielens", movielens]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def sections(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "results.json").read_text())["sections"])


@pytest.mark.parametrize("name", OF_THE_PAPERS)
def test_every_claim_of_the_papers_that_can_be_tested_is_reproduced(
    sections: dict[str, Any], name: str
) -> None:
    verdicts = {
        claim["statement"]: claim["verdict"]
        for claim in sections[name]["claims"]
        if not claim["source"].startswith(OWN)
    }

    assert "reproduced" in verdicts.values()
    assert "not reproduced" not in verdicts.values(), verdicts


def test_figure_3_has_the_runs_of_movielens_where_that_is(
    sections: dict[str, Any], movielens_folder: Path
) -> None:
    figure3 = sections["figure3"]

    assert [claim["verdict"] for claim in figure3["claims"]] == ["reproduced"] * 6
    assert len(figure3["figures"]) == 3
    assert [row["depth"] for row in figure3["tables"][0]["rows"]] == [1, 2, 3, 4]
    assert figure3["work"][-1]["dims"] == [1682, 943, 943]


def test_factorizations_of_movielens_err_less_than_the_nuclear_norm(
    sections: dict[str, Any], movielens_folder: Path
) -> None:
    errors = {row["solution"]: row["test_rmse"] for row in sections["movielens"]["tables"][0]["rows"]}

    assert errors["depth 2"] < errors["nuclear norm"] < errors["mean of u1.base"]
    assert errors["mean of u1.base"] == pytest.approx(1.154, abs=0.001)


def test_every_claim_has_its_source_its_rule_and_its_evidence(sections: dict[str, Any]) -> None:
    claims = [claim for section in sections.values() for claim in section["claims"]]

    assert all(claim[field] for claim in claims for field in ("source", "rule", "evidence"))


def test_the_page_has_a_figure_of_every_experiment_that_was_run(out: Path, sections: dict[str, Any]) -> None:
    page = (out / "report.html").read_text()

    assert page.count("<svg") == sum(len(section["figures"]) for section in sections.values()) >= 19
    for section in sections.values():
        assert section["title"] in page


def test_the_page_loads_nothing(out: Path) -> None:
    page = (out / "report.html").read_text()

    assert not re.findall(r"<(?:script|link|img|iframe)\b", page)
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:image/png;base64,)[^\"']*", page)


def test_steps_are_counted_for_comparisons_of_speed(sections: dict[str, Any]) -> None:
    work = [work for section in sections.values() for work in section["work"]]

    assert {"completion", "sensing"} == {one["task"] for one in work}
    assert all(one["steps"] > 0 and len(one["dims"]) >= 2 and one["observed"] > 0 for one in work)
