"""The history of a run as scalars for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dmf_fast.training import Callback, Progress


@contextmanager
def tensorboard_log(folder: Path | None, name: str) -> Iterator[list[Callback]]:
    """Give the callbacks of `fit` that log to ``folder/name``; none without a folder.

    Raises a `ValueError` where the package tensorboard is missing, and `OSError`.
    """
    if folder is None:
        yield []
        return
    log = _Log(folder / name)
    try:
        yield [log]
    finally:
        log.close()


def check_tensorboard() -> None:
    """Raise a `ValueError` that says how to install what TensorBoard logs need, where it is missing."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"--tensorboard needs the package tensorboard ({error}): pip install 'dmf-fast[tensorboard]'."
        ) from error


class _Log:
    """Writes every evaluation of the search, and of the training on all entries that comes after it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._part = ""
        self._writer: Any = None

    def __call__(self, progress: Progress) -> None:
        # Only the search has validation entries, where there are any.
        if progress.row["validation_rmse"] is not None:
            part = "search"
        else:
            part = "refit" if self._part in ("search", "refit") else "train"
        if part != self._part:
            self._begin(part, progress.step)
        for name, value in progress.row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, progress.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _begin(self, part: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self._part = part
        # What an interrupted run has logged beyond its checkpoint is hidden.
        self._writer = SummaryWriter(str(self._folder / part), purge_step=step)
