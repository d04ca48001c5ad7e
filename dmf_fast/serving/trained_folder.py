"""A folder with everything that predictions need: a trained model, its ids, and what rows have seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec

from dmf_fast.checks import printable
from dmf_fast.data.errors import DataError
from dmf_fast.data.id_map import IdMap
from dmf_fast.files.atomic import read_whole
from dmf_fast.files.digests import check_sums, first_foreign, read_sums, summed_folder
from dmf_fast.files.reading import read_record, reading
from dmf_fast.serving.predictor import Predictor
from dmf_fast.serving.seen_columns import SeenColumns
from dmf_fast.serving.two_factors import TwoFactors, collapse

_FORMAT, _VERSION = "dmf_fast trained folder", 2
FACTS = "trained.json"
ROW_IDS, COLUMN_IDS, SEEN = "row_ids.parquet", "column_ids.parquet", "seen.safetensors"
_KIND = "a folder written by dmf-fast complete"
_ADVICE = "name one, or train the model again"


@dataclass(frozen=True, eq=False)
class TrainedFolder:
    """A model with the id maps of its rows and columns; other files of the folder are read on demand.

    The folder holds a model for every trained depth, and names the default::

        folder/trained.json                    format, version, depths: the default first
               model-depth-2.safetensors       factors, biases, mean; see `Predictor`
               row_ids.parquet                 the ids of the rows in the order of their indices; `IdMap`
               column_ids.parquet
               seen.safetensors                the entries that were trained on; `SeenColumns`
               SHA256SUMS                      of these files and all others that belong to the model

    Attributes:
        path: the folder.
        predictor: the model.
        row_ids: ids of its rows.
        column_ids: ids of its columns.
        sums: digests of all files of the folder, by name.

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
    sums: Mapping[str, str]

    @classmethod
    def open(cls, path: Path | str, depth: int | None = None) -> TrainedFolder:
        """Load a model from a folder written by `write_trained_folder`.

        Args:
            path: the folder.
            depth: depth of the model, if there are several; None for the default.

        Raises:
            DataError: the folder is of another kind, damaged, incomplete or of another version, or lacks a
                model of that depth.

        """
        path = Path(path)
        if not path.is_dir():
            raise DataError(f"{printable(path)} is not a folder; name one that dmf-fast complete --out wrote")
        return read_whole(path, lambda: cls._open(path, depth))

    @classmethod
    def _open(cls, path: Path, depth: int | None) -> TrainedFolder:
        with reading(path, _KIND, _ADVICE, DataError):
            sums = read_sums(path)
            check_sums(path, (FACTS,), sums)
            facts = read_record(path / FACTS, _Facts)
            if facts.format != _FORMAT or facts.version != _VERSION:
                raise ValueError(
                    f"it has version {facts.version}, but this dmf_fast reads version {_VERSION}"
                )
            depth = facts.depths[0] if depth is None else depth
            if depth in facts.depths:
                check_sums(path, (model_name(depth), ROW_IDS, COLUMN_IDS), sums)
        if depth not in facts.depths:
            depths = ", ".join(map(str, facts.depths))
            raise DataError(f"{printable(path)} has no model of depth {depth}, only {depths}")
        predictor = Predictor.load(path / model_name(depth), checked=True)
        ids = IdMap.load(path / ROW_IDS), IdMap.load(path / COLUMN_IDS)
        shape = (len(ids[0]), len(ids[1]))
        if shape != predictor.model.shape:
            raise DataError(
                f"{printable(path)} is damaged: it holds {shape[0]} row ids and {shape[1]} column ids for a "
                f"model of shape {predictor.model.shape}; train it again"
            )
        return cls(path, predictor, *ids, sums)

    def checked(self, name: str) -> Path | None:
        """Return the path of a file after checking its digest; None if the folder has no such file.

        Raises a `DataError` if the file is damaged, or if the folder has been replaced since it was opened.
        """
        if name not in self.sums and not (self.path / name).exists():
            return None
        with reading(self.path, _KIND, _ADVICE, DataError):
            check_sums(self.path, (name,), self.sums)
        return self.path / name

    @cached_property
    def two_factors(self) -> TwoFactors:
        """The model as two factors; a `DataError` if its numbers are not usable."""
        try:
            return collapse(self.predictor.model)
        except ValueError as error:
            raise DataError(f"{self.path} holds an unusable model: {error}") from error

    @cached_property
    def seen(self) -> SeenColumns:
        """The entries that were trained on, memory-mapped; a `DataError` says why they cannot be read."""
        path = self.checked(SEEN)
        if path is None:
            raise DataError(f"{printable(self.path)} lacks {SEEN}; train it again")
        seen = SeenColumns.load(path, checked=True)
        if seen.shape != self.predictor.model.shape:
            raise DataError(
                f"{printable(path)} has shape {seen.shape}, but the model has {self.predictor.model.shape}; "
                "train it again"
            )
        return seen


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    """Facts about a trained folder."""

    format: str
    version: int
    depths: Annotated[list[Annotated[int, msgspec.Meta(ge=1)]], msgspec.Meta(min_length=1)]


def write_trained_folder(
    path: Path | str,
    predictors: Sequence[Predictor],
    row_ids: IdMap,
    column_ids: IdMap,
    seen: SeenColumns,
) -> None:
    """Write a folder that `TrainedFolder.open` reads, replacing an older one.

    Even if the process is killed, the folder is either the old one or the new one.

    Args:
        path: the folder, which is created.
        predictors: models of different depths for the same ids; the first is the default.
        row_ids: integers or text, one for each row of the models.
        column_ids: integers or text, one for each column of the models.
        seen: the entries that were trained on.

    Raises:
        ValueError: there is no predictor, two have the same depth, or shapes disagree.
        DataError: the ids are neither integers nor text, which files cannot hold.
        OSError: the folder cannot be written, or holds files that do not belong to a trained model.

    """
    with new_trained_folder(Path(path)) as folder:
        fill_trained_folder(folder, predictors, row_ids, column_ids, seen)


@contextmanager
def new_trained_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, for `fill_trained_folder` and more files, that then replaces ``path``.

    Raises a `FileExistsError` if that holds files that do not belong to a model, and `OSError` as
    `atomic_folder` does.
    """
    refuse_foreign(path)
    with summed_folder(path) as partial:
        yield partial
        refuse_foreign(path)


def refuse_foreign(path: Path) -> None:
    """Raise a `FileExistsError` if a folder holds files that do not belong to a trained model.

    >>> refuse_foreign(Path("no/such/folder"))
    """
    foreign = first_foreign(path, FACTS)
    if foreign is not None:
        raise FileExistsError(
            f"{printable(path)} holds {printable(foreign)}, which does not belong to a trained model, so the "
            "folder is not replaced; name another folder or move that file away"
        )


def fill_trained_folder(
    folder: Path, predictors: Sequence[Predictor], row_ids: IdMap, column_ids: IdMap, seen: SeenColumns
) -> None:
    """Write the files of `write_trained_folder`, with the same errors, to a folder yet to be published."""
    depths = depths_of(predictors)
    shape = (len(row_ids), len(column_ids))
    for given in (*(predictor.model.shape for predictor in predictors), seen.shape):
        if given != shape:
            raise ValueError(
                f"`predictors` and `seen` must have shape {shape}, one row and column for each id, got "
                f"{given}"
            )
    row_ids.save(folder / ROW_IDS)
    column_ids.save(folder / COLUMN_IDS)
    seen.save(folder / SEEN)
    for depth, predictor in zip(depths, predictors, strict=True):
        predictor.save(folder / model_name(depth))
    write_facts(folder, depths)


def depths_of(predictors: Sequence[Predictor]) -> list[int]:
    """Return the depths of the models of a folder; a `ValueError` if there are none or two are equal."""
    depths = [len(predictor.model.factors) for predictor in predictors]
    if not depths or len(set(depths)) != len(depths):
        raise ValueError(f"`predictors` must be one or more models of different depths, got {depths}")
    return depths


def write_facts(folder: Path, depths: Sequence[int]) -> None:
    """Write the facts about a trained folder."""
    facts = {"format": _FORMAT, "version": _VERSION, "depths": list(depths)}
    (folder / FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def model_name(depth: int) -> str:
    """Return the name of the file with the model of a depth.

    >>> model_name(2)
    'model-depth-2.safetensors'
    """
    return f"model-depth-{depth}.safetensors"
