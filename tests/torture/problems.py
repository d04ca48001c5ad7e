"""Small problems that attacks share: ratings, a trial, an estimator, the command line in this process."""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from dmf_fast import Observations
from dmf_fast.cli.app import main
from dmf_fast.estimator import MatrixCompleter
from dmf_fast.training import FitOptions, Recording, Trial

QUICK = ("--depth", "2", "--hidden", "3", "--quiet", "--threads", "1")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def command(*arguments: object) -> Ended:
    """Run ``dmf-fast`` in this process; what is no exit is raised."""
    out, errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    words = ["dmf-fast", *map(str, arguments)]
    code = 0
    with _as_before(), patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(errors):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        out.flush()
    written = out.buffer.getvalue().decode(errors="replace")  # type: ignore[attr-defined]
    return Ended(code, written, errors.getvalue())


@contextmanager
def _as_before() -> Iterator[None]:
    """Put back what the command line sets for a process that it has to itself."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with patch.object(warnings, "showwarning", warnings.showwarning), patch.dict(os.environ):
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def ratings_text(seed: int = 0, rows: int = 12, columns: int = 8) -> str:
    """Return ratings as CSV: two fifths of a matrix of biases."""
    random = np.random.default_rng(seed)
    users, items = np.nonzero(random.random((rows, columns)) < 0.4)
    values = 3 + random.normal(size=rows)[users] + random.normal(size=columns)[items]
    lines = [f"{100 + u},film {i},{v:.2f}" for u, i, v in zip(users, items, values, strict=True)]
    return "user,item,rating\n" + "\n".join(lines) + "\n"


def train_by_command(folder: Path, name: str, seed: int = 0) -> Path:
    """Train on small ratings, leave the model in a folder of this name, and return that."""
    with tempfile.TemporaryDirectory() as elsewhere:
        ratings = Path(elsewhere, "ratings.csv")
        ratings.write_text(ratings_text(seed))
        ended = command("complete", ratings, "--out", folder / name, "--steps", "10", "--overwrite", *QUICK)
    if ended.code:
        raise RuntimeError(ended.stderr)
    return folder / name


def completer(seed: int, *, keep_ratings: bool = True) -> MatrixCompleter:
    """Return a small fitted estimator."""
    users, items = ["ann", "ann", "bob", "bob", "eve"], ["x", "y", "x", "z", "z"]
    values = [5.0, 3.0, 4.0, 2.0, 1.0 + seed]
    one = MatrixCompleter(depth=2, hidden=2, steps=10, keep_ratings=keep_ratings, n_threads=1)
    return one.fit(list(zip(users, items, strict=True)), values)


def observations(seed: int = 0, shape: tuple[int, int] = (12, 9)) -> Observations:
    """Return two fifths of the entries of a matrix."""
    random = np.random.default_rng(seed)
    rows, columns = np.nonzero(random.random(shape) < 0.4)
    return Observations(rows, columns, random.normal(size=len(rows)), shape, dtype=torch.float64)


def factors(seed: int = 0, shape: tuple[int, int] = (12, 9)) -> list[torch.Tensor]:
    """Return a start of depth 3."""
    random = torch.Generator().manual_seed(seed)
    sizes = (shape[1], 4, 4, shape[0])
    pairs = zip(sizes[1:], sizes, strict=False)
    return [torch.randn(pair, generator=random, dtype=torch.float64) for pair in pairs]


def trial(seed: int = 0, steps: int = 20) -> Trial:
    """Return a small trial."""
    return Trial(
        {"seed": seed},
        factors(seed),
        observations(),
        partial(torch.optim.SGD, lr=0.01, momentum=0.9),
        FitOptions(steps=steps, progress=False, checkpoint_every=10),
        Recording(every=5),
    )
