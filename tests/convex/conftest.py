"""What the tests of the convex solvers share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def small_matrices(one_thread: None) -> None:
    """Matrices this small gain nothing from more threads, and lose much where tests run beside each other."""
