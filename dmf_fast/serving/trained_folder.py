"""A trained model with its ids and what its rows have seen, as a folder: all that predictions need."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dmf_fast.data.errors import DataError
from dmf_fast.data.id_map import IdMap
from dmf_fast.files.atomic import atomic_file
from dmf_fast.serving.predictor import Predictor
from dmf_fast.serving.seen_columns import SeenColumns
from dmf_fast.serving.two_factors import TwoFactors, collapse

_FORMAT, _VERSION = "dmf_fast trained folder", 1
_FACTS, _ROW_IDS, _COLUMN_IDS, _SEEN = (
    "trained.json",
    "row_ids.parquet",
    "column_ids.parquet",
    "seen.safetensors",
)


@dataclass(frozen=True, eq=False)
class TrainedFolder:
    """A model with the id maps of its rows and columns; what else the folder holds is read when it is used.

    The folder holds a model for every depth that was trained, and says which one counts::

        folder/trained.json                    format, version, depths: the one that counts first
               model-depth-2.safetensors       factors, biases, mean; see `Predictor`
               row_ids.parquet                 the ids of the rows in the order of their indices; `IdMap`
               column_ids.parquet
               seen.safetensors                the entries that were trained on; `SeenColumns`

    Attributes:
        path: the folder.
        predictor: the model.
        row_ids: of its rows.
        column_ids: of its columns.

    Example:
        >>> import tempfile
        >>> from dmf_fast import DeepMatrixFactorization
        >>> predictor = Predictor(DeepMatrixFactorization((2, 3), 2), 3.5, 1.0, 5.0, clip=True)
        >>> ids, seen = (IdMap(["ann", "bob"]), IdMap([10, 20, 30])), SeenColumns.of_pairs([0], [2], (2, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_trained_folder(folder, [predictor], *ids, seen)
        ...     TrainedFolder.open(folder).row_ids.ids.to_pylist()
        ['ann', 'bob']

    """

    path: Path
    predictor: Predictor
    row_ids: IdMap
    column_ids: IdMap

    @classmethod
    def open(cls, path: Path | str, depth: int | None = None) -> TrainedFolder:
        """Load the model of a depth from a folder that `write_trained_folder` has filled.

        Args:
            path: the folder.
            depth: which model, where there are several; None for the one that counts.

        Raises:
            DataError: it is no such folder, damaged or not whole, of another version, or lacks that depth.

        """
        path = Path(path)
        depths = _depths(path)
        depth = depths[0] if depth is None else depth
        if depth not in depths:
            raise DataError(f"{path} has no model of depth {depth}, only {', '.join(map(str, depths))}")
        trained = cls(
            path,
            Predictor.load(path / model_name(depth)),
            IdMap.load(path / _ROW_IDS),
            IdMap.load(path / _COLUMN_IDS),
        )
        shape = (len(trained.row_ids), len(trained.column_ids))
        if shape != trained.predictor.model.shape:
            raise DataError(
                f"{path} is damaged: it holds {shape[0]} row ids and {shape[1]} column ids for a model of "
                f"shape {trained.predictor.model.shape}; train it again"
            )
        return trained

    @cached_property
    def two_factors(self) -> TwoFactors:
        """The model as two factors; a `DataError` says that its numbers are spoilt."""
        try:
            return collapse(self.predictor.model)
        except ValueError as error:
            raise DataError(f"{self.path} holds a model without use: {error}") from error

    @cached_property
    def seen(self) -> SeenColumns:
        """The entries that were trained on, mapped; a `DataError` says why they cannot be read."""
        seen = SeenColumns.load(self.path / _SEEN)
        if seen.shape != self.predictor.model.shape:
            raise DataError(
                f"{self.path / _SEEN} is of shape {seen.shape}, but the model of "
                f"{self.predictor.model.shape}; train it again"
            )
        return seen


def write_trained_folder(
    path: Path | str,
    predictors: Sequence[Predictor],
    row_ids: IdMap,
    column_ids: IdMap,
    seen: SeenColumns,
) -> None:
    """Write what `TrainedFolder.open` reads; other files of the folder stay.

    A folder whose writing was interrupted is refused when it is opened, and never a mix of two.

    Args:
        path: a folder, which is created.
        predictors: models of different depths for the same ids; the first is the one that counts.
        row_ids: integers or text, one for each row of the models.
        column_ids: likewise, for the columns.
        seen: the entries that were trained on.

    Raises:
        ValueError: there is no predictor, two are of one depth, or shapes disagree.
        DataError: the ids are neither integers nor text, which files cannot hold.
        OSError: the folder cannot be written.

    """
    path = Path(path)
    depths = [len(predictor.model.factors) for predictor in predictors]
    if not depths or len(set(depths)) != len(depths):
        raise ValueError(f"`predictors` must be one or several of different depths, got {depths}")
    shape = (len(row_ids), len(column_ids))
    for given in (*(predictor.model.shape for predictor in predictors), seen.shape):
        if given != shape:
            raise ValueError(
                f"`predictors` and `seen` must have shape {shape}, one row and column for each id, got "
                f"{given}"
            )
    path.mkdir(parents=True, exist_ok=True)
    (path / _FACTS).unlink(missing_ok=True)
    row_ids.save(path / _ROW_IDS)
    column_ids.save(path / _COLUMN_IDS)
    seen.save(path / _SEEN)
    for depth, predictor in zip(depths, predictors, strict=True):
        predictor.save(path / model_name(depth))
    for file in (_SEEN, *map(model_name, depths)):
        shutil.copymode(path / _ROW_IDS, path / file)  # safetensors lets nobody else read its files
    with atomic_file(path / _FACTS) as partial:
        partial.write_text(json.dumps({"format": _FORMAT, "version": _VERSION, "depths": depths}) + "\n")


def model_name(depth: int) -> str:
    """Return the name of the file that holds the model of a depth.

    >>> model_name(2)
    'model-depth-2.safetensors'
    """
    return f"model-depth-{depth}.safetensors"


def _depths(path: Path) -> list[int]:
    """Return the depths of the models of a folder, the one that counts first."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; name one that dmf-fast complete --out wrote")
    try:
        facts = json.loads((path / _FACTS).read_text())
        if facts["format"] != _FORMAT or facts["version"] != _VERSION:
            raise ValueError(f"it is of version {facts['version']}, this dmf_fast reads {_VERSION}")
        return [int(depth) for depth in facts["depths"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a folder of dmf-fast complete: its {_FACTS} is missing or spoilt ({error}); name "
            "one, or train the model again"
        ) from error
