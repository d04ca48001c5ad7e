"""What the tests of the experiments share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmf_fast.page.content import Picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of all tests of a file are kept."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures stay figures of Matplotlib."""
    monkeypatch.setattr(Picture, "of", staticmethod(lambda figure, caption: figure))
