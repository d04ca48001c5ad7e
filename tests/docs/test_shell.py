"""Every line of a shell block on the pages calls something that exists."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import metadata
from importlib.util import find_spec
from itertools import dropwhile

import click
import pytest

from tests.docs.pages import blocks, pages
from tests.killing import ROOT

TARGETS = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
EXTRAS = metadata("dmf-fast").get_all("Provides-Extra")
VARIABLE = re.compile("[A-Z_]+=")
# Other tests parse or run these.
ELSEWHERE = ("dmf-fast", "torchrun")


def lines(page: str) -> list[list[str]]:
    """Return the words of every line in the shell blocks of a page, without variables that it sets."""
    code = "\n".join(block.code for block in blocks(page) if block.language == "bash")
    split = (shlex.split(line, comments=True) for line in code.replace("\\\n", " ").splitlines())
    return [list(dropwhile(VARIABLE.match, words)) for words in split if words]


def is_known(program: str, *arguments: str) -> bool:
    """Return whether what a line calls exists, with what it names of this project."""
    if program == "make":
        return arguments[0] in TARGETS
    if program == "pip":
        own = re.findall(r"(?:dmf-fast|\.)\[([\w,]+)\]", " ".join(arguments))
        return arguments[0] == "install" and all(one in EXTRAS for names in own for one in names.split(","))
    if program == "python" and arguments[0] == "-m":
        return find_spec(arguments[1]) is not None
    if program == "python":
        return (ROOT / "examples" / arguments[0]).is_file()
    if program == "hf":
        return is_hub_command(arguments[0])
    return program in ELSEWHERE or (program, *arguments) == ("wait",)


def is_hub_command(name: str) -> bool:
    """Return whether the command line of the Hub has a command."""
    hub = pytest.importorskip("huggingface_hub.cli.hf", reason="pip install dmf-fast[hub]").app
    with click.Context(hub, info_name="hf") as context:
        return hub.get_command(context, name) is not None


@pytest.mark.parametrize("page", [page for page in pages() if lines(page)])
def test_every_line_calls_what_exists(page: str) -> None:
    assert [words for words in lines(page) if not is_known(*words)] == []


@pytest.mark.parametrize("page", pages())
def test_a_block_of_code_names_its_language(page: str) -> None:
    assert [block.line for block in blocks(page) if not block.language] == []
