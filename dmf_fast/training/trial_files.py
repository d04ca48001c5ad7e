"""The results of trials in a folder: each there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file

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
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    result = ended.result
    pq.write_table(result.history, unfinished / _HISTORY)
    save_file({f"factors.{j}": factor for j, factor in enumerate(ended.factors)}, unfinished / _FACTORS)
    kept = {field.name: getattr(result, field.name) for field in fields(result) if field.name != "history"}
    labels = {"labels": dict(ended.trial.labels), "optimizer": ended.trial.spec.describe()}
    (unfinished / _SUMMARY).write_text(json.dumps(kept | labels, indent=1) + "\n")
    os.replace(unfinished, folder)


def load_result(trial: Trial, folder: Path) -> TrialResult:
    """Return the result that `keep_result` has written."""
    kept = json.loads((folder / _SUMMARY).read_text())
    factors = load_file(folder / _FACTORS, device=str(trial.train.device))
    of_result = {field.name: kept[field.name] for field in fields(FitResult) if field.name != "history"}
    result = FitResult(history=pq.read_table(folder / _HISTORY), **of_result)
    return TrialResult(trial, [factors[f"factors.{j}"] for j in range(len(factors))], result)
