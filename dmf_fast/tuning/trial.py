"""The trials of a search, and their file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from dmf_fast.checks import printable
from dmf_fast.files.identity import first_difference, plain
from dmf_fast.files.reading import reading
from dmf_fast.files.records import load_record, save_record

TuningTrialState = Literal["complete", "pruned", "diverged"]
_FORMAT = 2


@dataclass(frozen=True)
class TuningTrial:
    """One run of a search.

    Attributes:
        number: from 0, the trial with the initial options.
        state: ``"complete"``, ``"pruned"`` (worse than others at the same step) or ``"diverged"``.
        values: values of the searched options, by name.
        validation_rmse: lowest validation RMSE; None if the trial diverged.
        best_step: step of the lowest validation RMSE.
        steps: number of updates.
        seconds: training time.
        reports: validation RMSE by step.

    """

    number: int
    state: TuningTrialState
    values: dict[str, Any]
    validation_rmse: float | None
    best_step: int | None
    steps: int
    seconds: float
    reports: dict[int, float]


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """The contents of a file of trials."""

    format: int
    job: dict[str, Any]
    trials: list[TuningTrial]


def save_trials(path: Path, job: dict[str, Any], trials: list[TuningTrial]) -> None:
    """Write the trials of a job atomically."""
    kept = {"format": _FORMAT, "job": plain(job), "trials": [asdict(trial) for trial in trials]}
    save_record(path, kept)


def load_trials(path: Path, job: dict[str, Any]) -> list[TuningTrial]:
    """Return the trials of ``job`` in a file; none if it does not exist.

    Raises a `ValueError` if the file is damaged or of another job; the message names the difference.
    """
    if not path.exists():
        return []
    with reading(path, "a file of the trials of a search", "remove it"):
        kept = load_record(path, _Kept)
        if kept.format != _FORMAT:
            raise ValueError("it was written by another version of dmf_fast")
        _check_numbers([trial.number for trial in kept.trials], job.get("parallel", 1))
    check_job(path, kept.job, job)
    return kept.trials


def check_job(path: Path, kept: dict[str, Any], job: dict[str, Any]) -> None:
    """Raise a `ValueError` that names the first difference if a file holds the trials of another job."""
    # Files without the number of parallel trials are of sequential searches.
    difference = first_difference({"parallel": 1} | kept, {"parallel": 1} | plain(job))
    if difference is not None:
        raise ValueError(
            f"{printable(path)} belongs to another search: {difference}; use the same options, or "
            "remove the file"
        )


def _check_numbers(numbers: list[int], parallel: int) -> None:
    """Raise a `ValueError` if a number is missing before the last batch."""
    begun = (numbers[-1] // parallel if numbers else 0) * parallel
    if numbers != sorted(set(numbers)) or numbers[:begun] != list(range(begun)):
        raise ValueError("its trials are incomplete or out of order")
