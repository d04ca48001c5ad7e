"""A small ratings file, a model trained on it, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dmf_fast.cli.app import app
from tests.cli.runs import QUICK


@pytest.fixture(scope="session")
def dmf_fast() -> Callable[..., Result]:
    """Run ``dmf-fast`` with arguments and standard input; the result has exit_code, stdout and stderr."""

    def run(*arguments: object, standard_input: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=standard_input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def ratings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 users, 20 films, 300 ratings from 1 to 5 that biases and one factor explain in part."""
    random = np.random.default_rng(7)
    users, films = np.divmod(np.sort(random.choice(600, 300, replace=False)), 20)
    users[0], films[0] = 0, 0
    score = (
        3
        + random.normal(size=30)[users]
        + np.outer(random.normal(size=30), random.normal(size=20))[users, films]
    )
    rows = [
        f"{100 + user},film {film},{value:.2f}"
        for user, film, value in zip(users, films, np.clip(score, 1, 5), strict=True)
    ]
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    path.write_text("user,item,rating\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def trained(
    dmf_fast: Callable[..., Result], ratings_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What ``dmf-fast complete`` writes for the small file; tests only read it."""
    out = tmp_path_factory.mktemp("trained") / "model"
    result = dmf_fast("complete", ratings_file, "--depth", "2", "--out", out, *QUICK)
    assert result.exit_code == 0, result.stderr
    return out
