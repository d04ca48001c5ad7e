"""Every block of Python on the pages runs, and every command is one that the program understands."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from dmf_fast.cli.app import app
from tests.docs.pages import ELSEWHERE, blocks, commands, pages, ratings
from tests.killing import ROOT

# What takes seconds on a small file; other commands are only parsed.
QUICK = {"complete", "evaluate", "predict", "recommend", "export", "report", "info"}

with_code = [page for page in pages() if any(block.language == "python" for block in blocks(page))]
with_commands = [page for page in pages() if any(commands(page))]
guides = [page for page in with_commands if page in ("README.md", "docs/quickstart.md", "docs/ratings.md")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the pages name."""
    ratings(tmp_path, "ratings.csv", 700)
    ratings(tmp_path, "test.csv", 60)
    (tmp_path / "pairs.csv").write_text("user,item\n1,3\n196,242\n")
    for path in (ROOT / "examples").glob("*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in with_code if page not in ELSEWHERE])
@pytest.mark.filterwarnings("ignore:::mlflow", "ignore:The ``noload`` loader strategy")
def test_the_blocks_of_a_page_run_in_order(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # The default backend calls a C++ compiler, which takes a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    names = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            # With as many empty lines before it, an error names its line on the page.
            exec(compile("\n" * (block.line - 1) + block.code, ROOT / page, "exec"), names)


@pytest.mark.parametrize("page", with_commands)
def test_the_program_understands_the_commands_of_a_page(page: str, folder: Path) -> None:
    for name, *arguments in commands(page):
        with click.Context(app, info_name="dmf-fast") as context:
            command = app.get_command(context, name)
            assert command is not None, name
            command.make_context(name, arguments, parent=context).close()


@pytest.mark.parametrize("page", guides)
def test_the_commands_of_a_guide_run_in_order(page: str, folder: Path) -> None:
    quick = [(name, arguments) for name, *arguments in commands(page) if name in QUICK]
    assert quick
    for name, arguments in quick:
        again = ["--overwrite"] if name == "complete" and Path("model").exists() else []
        result = CliRunner().invoke(app, [name, *arguments, *again])
        assert result.exit_code == 0, (name, arguments, result.output)
