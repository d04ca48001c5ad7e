"""Opens what ``dmf-fast complete --out DIR`` left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dmf_fast.data import DataError, IdMap
from dmf_fast.serving import Predictor, SeenColumns, TwoFactors, collapse


@dataclass(frozen=True)
class TrainedFolder:
    """A model with the id maps of its rows and columns."""

    path: Path
    predictor: Predictor
    row_ids: IdMap
    column_ids: IdMap

    def two_factors(self) -> TwoFactors:
        """Return the model as two factors; a `DataError` says that its numbers are spoilt."""
        try:
            return collapse(self.predictor.model)
        except ValueError as error:
            raise DataError(f"{self.path} holds a model without use: {error}") from error

    def seen(self) -> SeenColumns:
        """Return what is in the ratings; a `DataError` says why that cannot be read."""
        return SeenColumns.read_parquet(self.path / "observed.parquet", self.predictor.model.shape)


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
        path,
        Predictor.load(path / model_name(depth)),
        IdMap.load(path / "row_ids.parquet"),
        IdMap.load(path / "column_ids.parquet"),
    )


def model_name(depth: int) -> str:
    """Return the name of the file that holds the model of a depth."""
    return f"model-depth-{depth}.safetensors"
