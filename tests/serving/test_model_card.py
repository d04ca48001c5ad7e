"""The model card: all facts, in tables that Markdown reads as tables whatever the facts hold."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest
import yaml

from dmf_fast.serving import DataFacts, ModelCard, TrainingFacts, model_card

CARD = ModelCard(
    title="Films",
    data=DataFacts(("u1.base", "films|of\n1990.csv"), 943, 1682, 80_000, 1.0, 5.0, 3.528),
    settings={"depth": 2, "lr": 0.1, "clip": True, "patience": None, "optimizer": "group-rmsprop"},
    training=TrainingFacts(812, 75.2, "depth 3", {"biases": 0.96, "depth 3": 0.93}),
    metrics={
        "this model": {"validation RMSE": 0.93, "test RMSE": 0.92251},
        "biases alone": {"test RMSE": 0.96},
    },
    folder="models/films",
    versions={"dmf-fast": "0.1.0", "torch": "2.13.0"},
)


def table_rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of the table below a heading."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    unescaped = [line.replace("\\|", "\0").strip("|").split("|") for line in lines]
    return [[cell.strip().replace("\0", "|") for cell in cells] for cells in unescaped]


def body(card: ModelCard) -> str:
    """Return what follows the metadata."""
    start, metadata, text = model_card(card).split("---\n", 2)
    assert (start, yaml.safe_load(metadata)["library_name"]) == ("", "dmf-fast")
    return text.removeprefix("\n")


def test_every_fact_is_there() -> None:
    text = body(CARD)
    assert text.startswith("# Films\n")
    data = dict(table_rows(text, "Data")[2:])
    assert data["rows"] == "943"
    assert data["entries"] == "80,000"
    assert data["values"] == "from 1.0 to 5.0"
    assert data["mean value"] == "3.528"
    settings = dict(table_rows(text, "Settings")[2:])
    assert settings == {
        "depth": "2",
        "lr": "0.1",
        "clip": "yes",
        "patience": "–",
        "optimizer": "group-rmsprop",
    }
    assert "812 steps in 75.2 seconds; chosen: depth 3." in text
    assert "dmf-fast predict models/films pairs.csv" in text
    assert dict(table_rows(text, "Software")[2:]) == {"dmf-fast": "0.1.0", "torch": "2.13.0"}


def test_the_model_is_listed_with_its_baselines() -> None:
    assert table_rows(model_card(CARD), "Metrics") == [
        ["", "validation RMSE", "test RMSE"],
        ["---", "---:", "---:"],
        ["this model", "0.9300", "0.9225"],
        ["biases alone", "–", "0.9600"],
    ]


def test_bars_and_line_ends_do_not_break_a_table() -> None:
    sources = dict(table_rows(model_card(CARD), "Data")[2:])["sources"]
    assert sources == "u1.base, films|of 1990.csv"


def test_a_model_that_was_not_measured_says_so() -> None:
    text = model_card(replace(CARD, metrics={}, data=replace(CARD.data, sources=())))
    assert "No ratings were held out for evaluation." in text
    assert dict(table_rows(text, "Data")[2:])["sources"] == "–"


def test_what_is_not_known_is_left_out() -> None:
    data, training = replace(CARD.data, entries=None), replace(CARD.training, seconds=None)
    text = body(replace(CARD, data=data, training=training))
    assert "A matrix of 943 rows and 1,682 columns, completed by deep matrix factorization." in text
    assert "812 steps; chosen: depth 3." in text
    assert dict(table_rows(text, "Data")[2:])["entries"] == "–"


def test_the_same_facts_give_the_same_text() -> None:
    assert model_card(CARD) == model_card(replace(CARD))
    assert not [line for line in model_card(CARD).splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    "path", ["my films; rm -rf ~", "it's", "```\n$(reboot)", "a\x1b[31mb\\c'", "`x`", "-x"]
)
def test_a_shell_that_is_given_the_commands_takes_the_path_for_one(path: str) -> None:
    text = model_card(replace(CARD, folder=path))
    fence, block = re.findall(r"^(`{3,})\n(.*?)^\1\n", text, re.DOTALL | re.MULTILINE)[0]
    command, _ = block.splitlines()
    assert fence not in command
    printed = subprocess.run(
        ["bash", "-c", command.replace("dmf-fast predict", "printf %s,", 1)], capture_output=True, check=True
    )
    assert printed.stdout.decode() == f"{path},pairs.csv,"


def test_control_characters_and_marks_of_markdown_stay_text() -> None:
    text = body(replace(CARD, title="\x1b[31m[a](b) `c` *d*"))
    assert text.splitlines()[0] == r"# \\x1b\[31m\[a\](b) \`c\` \*d\*"
