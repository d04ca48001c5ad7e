"""From files, or the synthetic matrix, to what a training run needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from torch import Tensor

from dmf_fast.cli.settings import DTYPES, CompleteSettings
from dmf_fast.data import DataError, IdMap, Ratings, ReadOptions, read_ratings
from dmf_fast.data.sources import ratings_files
from dmf_fast.experiments import PaperSetting
from dmf_fast.observations import Observations

Duplicates = Literal["error", "first", "last", "mean", "sum"]


@dataclass(frozen=True)
class TestPairs:
    """The test ratings by index, float64 values; -1 stands for an id that the train ratings lack."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Where both ids are known, bool, shape (len,)."""
        return (self.rows >= 0) & (self.columns >= 0)


@dataclass(frozen=True)
class CompletionProblem:
    """What is trained on and measured against; ``observed`` holds all the ratings."""

    observed: Observations
    test: Observations | None
    test_pairs: TestPairs | None
    truth: Tensor | None
    row_ids: IdMap
    column_ids: IdMap
    inputs: dict[str, str]


def load_problem(settings: CompleteSettings) -> CompletionProblem:
    """Read the files of ``settings``, or draw the paper's matrix where it names none."""
    return _synthetic_problem(settings) if settings.ratings is None else _ratings_problem(settings)


def _synthetic_problem(settings: CompleteSettings) -> CompletionProblem:
    problem = PaperSetting(seed=settings.seed).problem()
    train, test = (part.to(dtype=DTYPES[settings.dtype]) for part in (problem.train, problem.test))
    rows, columns = (IdMap(np.arange(size)) for size in train.shape)
    pairs = TestPairs(test.rows.numpy(), test.columns.numpy(), test.values.double().numpy())
    return CompletionProblem(train, test, pairs, problem.truth, rows, columns, {})


def _ratings_problem(settings: CompleteSettings) -> CompletionProblem:
    assert settings.ratings is not None
    ratings = _read(settings, settings.ratings, (False, False))
    row_ids, column_ids = ratings.row_ids, ratings.column_ids
    inputs = {"ratings_sha256": _digest(settings.ratings)}
    pairs, test = None, None
    if settings.test is not None:
        test_ratings = _read(settings, settings.test, (row_ids.holds_text, column_ids.holds_text))
        if settings.duplicates == "error":
            test_ratings.refuse_duplicates()
        mapped = _mapped(settings, test_ratings, row_ids, column_ids)
        pairs = TestPairs(mapped.rows, mapped.columns, mapped.values.astype(np.float64))
        test = _observations(settings, mapped.select(mapped.known)) if mapped.known.any() else None
        inputs["test_sha256"] = _digest(settings.test)
    observed = _observations(settings, ratings)
    return CompletionProblem(observed, test, pairs, None, row_ids, column_ids, inputs)


def _read(settings: CompleteSettings, path: Path, text_ids: tuple[bool, bool]) -> Ratings:
    options = ReadOptions(
        columns=settings.column_names,
        separator=settings.separator,
        dtype=cast(Literal["float32", "float64"], settings.dtype),
        text_ids=text_ids,
        strict=True,
    )
    return read_ratings(path, options)


def _mapped(settings: CompleteSettings, test: Ratings, row_ids: IdMap, column_ids: IdMap) -> Ratings:
    """Return the test ratings by the indices of the train ratings, checked for unknown ids."""
    mapped = test.mapped_to(row_ids, column_ids)
    if settings.unknown == "raise" and not mapped.known.all():
        first = int(mapped.known.argmin())
        raise DataError(
            f"{test.place(first)}: the pair {test.pair_text(first)} has an id that {settings.ratings} lacks; "
            "drop it, or say --unknown mean or --unknown nan."
        )
    return mapped


def _observations(settings: CompleteSettings, ratings: Ratings) -> Observations:
    duplicates = cast(Duplicates, settings.duplicates)
    return ratings.observations(duplicates=duplicates, dtype=DTYPES[settings.dtype])


def _digest(path: Path) -> str:
    """Return the SHA-256 of the file, or of all files of a folder one after the other."""
    digest = hashlib.sha256()
    for file in dict.fromkeys(file.path for file in ratings_files(path)):
        with file.open("rb") as opened:
            while block := opened.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()
