"""The results of trials in a folder: each is written atomically, by one process at a time.

For each trial the folder holds::

    trial-2f0c…/               its result, once it has ended
    trial-2f0c….checkpoint/    its state until then; the process that runs the trial locks this folder

The result is published before the checkpoint and its lock are removed, so that a process which then recreates
the lock finds the result.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
from safetensors.torch import load_file

from dmf_fast.files.atomic import remove_strays
from dmf_fast.files.digests import check_sums, summed_folder
from dmf_fast.files.lock import InUseError, locked
from dmf_fast.files.reading import read_record, reading
from dmf_fast.files.tensors import write_tensors
from dmf_fast.training.fit import FitResult
from dmf_fast.training.history import History
from dmf_fast.training.trials import Trial, TrialResult

_HISTORY, _FACTORS, _SUMMARY = "history.parquet", "factors.safetensors", "summary.json"


def folder_of(trial: Trial, folder: Path) -> Path:
    """Return the folder for the result of a trial."""
    return folder / f"trial-{trial.key()}"


def checkpoint_of(folder: Path) -> Path:
    """Return the folder for the checkpoints of the trial with the result folder ``folder``.

    >>> checkpoint_of(Path("runs/trial-1")).name
    'trial-1.checkpoint'
    """
    return folder.with_name(folder.name + ".checkpoint")


@contextmanager
def held_trial(folder: Path) -> Iterator[bool]:
    """Hold the trial with the result folder ``folder``; yield whether it has no result yet.

    Raises an `InUseError` if another process holds it, and what `locked` raises.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root, held_trial(Path(root, "trial-1")) as is_new:
    ...     is_new
    True
    """
    with locked(checkpoint_of(folder)):
        yield not folder.exists()
        if folder.exists():
            shutil.rmtree(checkpoint_of(folder), ignore_errors=True)
    with suppress(OSError):  # on NFS, a file that is open cannot be removed at once
        if folder.exists():
            checkpoint_of(folder).rmdir()


def remove_leftovers(folder: Path) -> None:
    """Remove the checkpoint and the temporary files that a killed process left next to a result.

    >>> remove_leftovers(Path("no/such/trial-1"))
    """
    remove_strays(folder)
    if checkpoint_of(folder).exists():
        with suppress(InUseError), held_trial(folder):
            pass


def keep_result(ended: TrialResult, folder: Path) -> None:
    """Write a result atomically."""
    result = ended.result
    kept = {field.name: getattr(result, field.name) for field in fields(result) if field.name != "history"}
    labels = {"labels": dict(ended.trial.labels), "optimizer": ended.trial.spec.describe()}
    factors = {f"factors.{j}": factor for j, factor in enumerate(ended.factors)}
    with summed_folder(folder) as partial:
        pq.write_table(result.history.table, partial / _HISTORY)
        write_tensors(factors, partial / _FACTORS)
        (partial / _SUMMARY).write_text(json.dumps(kept | labels, indent=1) + "\n", encoding="utf-8")


def load_result(trial: Trial, folder: Path) -> TrialResult:
    """Return the result that `keep_result` wrote; raise a `ValueError` if it is damaged."""
    with reading(folder, "the result of a trial", "remove it to run the trial again"):
        check_sums(folder, (_SUMMARY, _HISTORY, _FACTORS))
        kept = read_record(folder / _SUMMARY, dict[str, Any])
        history = pq.read_table(folder / _HISTORY)
        history.validate(full=True)
        result = msgspec.convert(kept | {"history": History(history)}, FitResult)
        factors = load_file(folder / _FACTORS, device=str(trial.train.device))
        if factors.keys() != {f"factors.{j}" for j in range(len(trial.factors))}:
            raise ValueError("it has other factors than the trial")
        ends = [factors[f"factors.{j}"] for j in range(len(trial.factors))]
        if [(end.shape, end.dtype) for end in ends] != [(one.shape, one.dtype) for one in trial.factors]:
            raise ValueError("its factors have other shapes or dtypes than those of the trial")
    return TrialResult(trial, ends, result)
