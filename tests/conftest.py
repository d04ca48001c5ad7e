"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def movielens_folder() -> Path:
    """The folder of MovieLens 100K, which may not be redistributed and so is read where the user keeps it."""
    repository = Path(__file__).resolve().parent.parent
    candidates = [Path(os.environ["DMF_FAST_DATA"])] if "DMF_FAST_DATA" in os.environ else []
    candidates.append(repository.parent / "shared" / "data")
    for candidate in candidates:
        if (candidate / "ml-100k" / "u.data").is_file():
            return candidate / "ml-100k"
    pytest.skip("MovieLens 100K is not here: set DMF_FAST_DATA to the folder that holds ml-100k/")
