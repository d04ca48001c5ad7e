"""The trials of a search, and the file that keeps them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dmf_fast.files.atomic import atomic_file
from dmf_fast.files.identity import first_difference, plain

TuningTrialState = Literal["complete", "pruned", "diverged"]
_FORMAT = 1


@dataclass(frozen=True)
class TuningTrial:
    """One run of the search.

    Attributes:
        number: from 0, where the options are those that the search began with.
        state: ``"complete"``, ``"pruned"`` (worse than the others at the same step) or ``"diverged"``.
        values: of the options that are searched for, by name.
        validation_rmse: the best; None where it diverged.
        best_step: the step of it.
        steps: updates made.
        seconds: of training.
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


def save_trials(path: Path, job: dict[str, Any], trials: list[TuningTrial]) -> None:
    """Write the trials of a job, which are there whole whenever the process is killed."""
    content = {"format": _FORMAT, "job": plain(job), "trials": [asdict(trial) for trial in trials]}
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


def load_trials(path: Path, job: dict[str, Any]) -> list[TuningTrial]:
    """Return the trials of ``job`` that a file keeps, none where there is no file.

    Raises a `ValueError` where the file is damaged or of another job; the message names the difference.
    """
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError("it was written by another version of dmf_fast")
        before = content["job"]
        trials = [_trial(fields) for fields in content["trials"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold the trials of a search ({error}); remove it") from error
    difference = first_difference(before, plain(job))
    if difference is not None:
        raise ValueError(
            f"{path} belongs to another search: {difference}; repeat the same, or remove the file"
        )
    return trials


def _trial(fields: dict[str, Any]) -> TuningTrial:
    reports = {int(step): rmse for step, rmse in fields["reports"].items()}
    return TuningTrial(**(fields | {"reports": reports}))
