"""What once broke a reader ends in a result or in a sentence, for good.

A file of the corpus holds an input of a target of ``tests/torture/targets``, a character a byte. What this
project wrote and something damaged must be refused, unless it was ``sealed``, with digests made right again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.torture.fuzzing import Seeds, fault_of
from tests.torture.targets import TARGETS

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))


@pytest.mark.parametrize("path", CORPUS, ids=[path.stem for path in CORPUS])
@pytest.mark.filterwarnings("ignore")
def test_what_once_broke_a_reader_ends_in_a_sentence(path: Path, tmp_path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    files = {name: text.encode("latin-1") for name, text in kept["files"].items()}

    fault = fault_of(TARGETS[kept["target"]], Seeds([], []), files, kept["sealed"], tmp_path)

    assert fault is None
