"""What notebooks show: tables that are short, escaped and without colors."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast import FitOptions, MatrixCompleter, Observations, fit, fit_many
from dmf_fast.completion import CompletionOptions, complete_matrix
from dmf_fast.data import as_ratings
from dmf_fast.evaluation import HeldOut, evaluate, usual_baselines
from dmf_fast.html import html_table
from dmf_fast.training import Trial

TRAIN = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 3.0])
SGD = partial(torch.optim.SGD, lr=0.1)


def cells(html: str) -> list[list[str]]:
    """Return the text of the cells, line by line."""
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", line) for line in re.findall(r"<tr>(.*?)</tr>", html)]


def test_a_table_is_escaped_and_its_numbers_are_short() -> None:
    table = pa.table({"<a>": ["<script>", "b & c"], "n": [12345, None], "x": [1 / 3, 1e-12]})
    assert cells(html_table(table)) == [
        ["&lt;a&gt;", "n", "x"],
        ["&lt;script&gt;", "12,345", "0.33333"],
        ["b &amp; c", "", "1e-12"],
    ]
    assert "<caption>&lt;i&gt;</caption>" in html_table(table, "<i>")


def test_a_long_and_wide_table_shows_its_ends_and_its_first_columns() -> None:
    table = pa.table({f"c{place}": range(1000) for place in range(40)})
    html = html_table(table, "Many")
    assert [line[0] for line in cells(html)] == [
        "c0",
        "0",
        "1",
        "2",
        "3",
        "4",
        "⋮",
        *map(str, range(995, 1000)),
    ]
    assert {(len(line), line[-1]) for line in cells(html)} == {(13, "…")}
    assert "<caption>Many, 1,000 rows</caption>" in html


def test_columns_of_one_name_are_all_shown() -> None:
    assert cells(html_table(pa.table([[1], [2]], ["n", "n"]))) == [["n", "n"], ["1", "2"]]


def test_eleven_rows_are_cut_and_ten_are_not() -> None:
    assert len(cells(html_table(pa.table({"n": range(10)})))) == 11
    assert len(cells(html_table(pa.table({"n": range(11)})))) == 12
    assert cells(html_table(pa.table({}))) == [[]]


def shown() -> dict[str, Any]:
    """Return one of each kind that notebooks show as a table."""
    result = fit([torch.eye(2), torch.eye(2)], TRAIN, SGD, FitOptions(steps=3))
    trials = [
        Trial({"seed": seed}, [torch.eye(2)] * 2, TRAIN, SGD, FitOptions(steps=seed)) for seed in (1, 2)
    ]
    ids = ([f"user {k % 7}" for k in range(28)], [f"<{k % 4}>" for k in range(28)], np.arange(28) % 5 + 1.0)
    ratings = as_ratings(ids)
    completer = MatrixCompleter(hidden=2, steps=5).fit(np.stack(ids[:2], 1), ids[2])
    test = HeldOut([0, 1], [1, 0], [2.0, 3.0])
    return {
        "result": result,
        "history": result.history,
        "trials": fit_many([replace(trial, factors=[torch.eye(2), torch.eye(2)]) for trial in trials]),
        "ratings": ratings,
        "completed": complete_matrix(ratings.observations(), CompletionOptions(hidden=2)),
        "ranking": completer.recommend(["user 0", "user 1"], 2, exclude_seen=False),
        "evaluation": evaluate(lambda rows, columns: rows * 1.0, TRAIN, test, usual_baselines(TRAIN)),
    }


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    return shown()


@pytest.mark.parametrize(
    "name", ["result", "history", "trials", "ratings", "completed", "ranking", "evaluation"]
)
def test_what_a_notebook_shows_is_a_small_table_without_colors(objects: dict[str, Any], name: str) -> None:
    html = objects[name]._repr_html_()
    assert html.startswith("<table>")
    assert html.endswith("</table>")
    assert len(html) < 5000
    assert set(re.findall(r"</?(\w+)", html)) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert "style" not in html
    assert len(repr(objects[name])) < 700


def test_a_result_shows_how_it_ended_and_its_history(objects: dict[str, Any]) -> None:
    result, html = objects["result"], objects["result"]._repr_html_()
    facts = dict(zip(*cells(html)[:2], strict=True))
    assert (facts["stopped because"], facts["steps"], facts["engine"]) == ("steps", "3", "native")
    assert html.endswith(objects["history"]._repr_html_())
    assert "validation_rmse" not in html  # there is no validation set
    assert cells(html)[-1][2] == f"{result.history['train_loss'][-1]:.5g}"


def test_trials_show_their_summary_and_count_how_they_ended(objects: dict[str, Any]) -> None:
    assert repr(objects["trials"]) == "Trials(2 stopped by steps)"
    assert [line[0] for line in cells(objects["trials"]._repr_html_())] == ["seed", "1", "2"]


def test_ratings_show_the_first_by_their_ids(objects: dict[str, Any]) -> None:
    head, *lines = cells(objects["ratings"]._repr_html_())
    assert head == ["row", "column", "value"]
    assert lines[:2] == [["user 0", "&lt;0&gt;", "1"], ["user 1", "&lt;1&gt;", "2"]]
    assert len(lines) == 10
    unknown = objects["ratings"].mapped_to(*[as_ratings((["user 1"], ["<1>"], [1.0])).row_ids] * 2)
    assert cells(unknown._repr_html_())[1] == ["", "", "1"]


def test_times_of_any_unit_are_shown_and_only_seconds_as_dates() -> None:
    for time, text in (
        (1_700_000_000, "2023-11-14 22:13:20"),
        (1_700_000_000_000, "1700000000000"),
        (-(2**62), str(-(2**62))),
    ):
        assert cells(as_ratings((["ann"], [7], [1.0], [time]))._repr_html_())[1][3] == text


def test_a_completed_matrix_marks_the_candidate_that_was_chosen(objects: dict[str, Any]) -> None:
    completed = objects["completed"]
    head, *lines = cells(completed._repr_html_())
    assert head[-1] == "chosen"
    assert [line[0] for line in lines if line[-1] == "✓"] == [completed.chosen.name]
    assert completed.chosen in completed.candidates


def test_an_evaluation_compares_the_model_with_its_baselines(objects: dict[str, Any]) -> None:
    evaluation = objects["evaluation"]
    lines = cells(evaluation._repr_html_())
    assert [line[0] for line in lines] == ["", "model", *evaluation.baselines]
    assert lines[1][1] == f"{np.sqrt((2.0**2 + 2.0**2) / 2):.5g}"  # it predicts 0 for 2 and 1 for 3
    assert repr(evaluation).startswith("Evaluation(2 test ratings; RMSE: model 2.0000, ")


def test_a_ranking_shows_a_line_for_every_id_that_was_asked_for(objects: dict[str, Any]) -> None:
    ranking = objects["ranking"]
    head, first, _ = cells(ranking._repr_html_())
    assert head == ["1", "2"]
    assert first[0] == f"{ranking.ids[0, 0]} ({ranking.scores[0, 0]:.3g})".replace("<", "&lt;").replace(
        ">", "&gt;"
    )
