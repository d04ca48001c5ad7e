"""Opens what ``dmf-fast complete --out DIR`` left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dmf_fast.cli.predictor import Predictor
from dmf_fast.data import DataError, IdMap


@dataclass(frozen=True)
class TrainedFolder:
    """A model with the id maps of its rows and columns."""

    predictor: Predictor
    row_ids: IdMap
    column_ids: IdMap


def open_trained_folder(path: Path, depth: int | None) -> TrainedFolder:
    """Load the run of the given depth, or the one that its validation entries chose, from the folder.

    Raises `DataError` where the folder is not one of ``dmf-fast complete`` or lacks that depth.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; name one that dmf-fast complete --out wrote.")
    try:
        runs = json.loads((path / "metrics.json").read_text())["runs"]
        depths = {run["depth"]: run["validation_rmse"] for run in runs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a folder of dmf-fast complete (its metrics.json is missing or spoilt); name one."
        ) from error
    if depth is None:
        # Deeper wins where no validation entries decide.
        depth = min(depths, key=lambda d: (depths[d] if depths[d] is not None else float("inf"), -d))
    if depth not in depths:
        raise DataError(f"{path} has no run of depth {depth}, only {', '.join(map(str, sorted(depths)))}.")
    return TrainedFolder(
        Predictor.load(path / model_name(depth)),
        IdMap.load(path / "row_ids.parquet"),
        IdMap.load(path / "column_ids.parquet"),
    )


def model_name(depth: int) -> str:
    """Return the name of the file that holds the model of a depth."""
    return f"model-depth-{depth}.safetensors"
