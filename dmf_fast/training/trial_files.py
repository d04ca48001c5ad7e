"""The results of trials in a folder: each there whole or not at all."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file

from dmf_fast.files.atomic import atomic_folder
from dmf_fast.training.fit import FitResult
from dmf_fast.training.trials import Trial, TrialResult

_HISTORY, _FACTORS, _SUMMARY = "history.parquet", "factors.safetensors", "summary.json"


def checkpoint_of(folder: Path) -> Path:
    """Return where a trial whose result belongs in ``folder`` keeps its checkpoints.

    >>> checkpoint_of(Path("runs/trial-1")).name
    'trial-1.checkpoint'
    """
    return folder.with_name(folder.name + ".checkpoint")


def keep_result(ended: TrialResult, folder: Path) -> None:
    """Write a result; the folder appears when it is whole."""
    result = ended.result
    kept = {field.name: getattr(result, field.name) for field in fields(result) if field.name != "history"}
    labels = {"labels": dict(ended.trial.labels), "optimizer": ended.trial.spec.describe()}
    factors = {f"factors.{j}": factor for j, factor in enumerate(ended.factors)}
    with atomic_folder(folder) as partial:
        pq.write_table(result.history, partial / _HISTORY)
        save_file(factors, partial / _FACTORS)
        (partial / _SUMMARY).write_text(json.dumps(kept | labels, indent=1) + "\n")


def load_result(trial: Trial, folder: Path) -> TrialResult:
    """Return the result that `keep_result` has written."""
    kept = json.loads((folder / _SUMMARY).read_text())
    factors = load_file(folder / _FACTORS, device=str(trial.train.device))
    of_result = {field.name: kept[field.name] for field in fields(FitResult) if field.name != "history"}
    result = FitResult(history=pq.read_table(folder / _HISTORY), **of_result)
    return TrialResult(trial, [factors[f"factors.{j}"] for j in range(len(factors))], result)
