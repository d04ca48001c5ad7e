"""From files, or the synthetic matrix, to what a training run needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
from torch import Tensor

from dmf_fast.cli.settings import DTYPES, CompleteSettings
from dmf_fast.data import DataError, IdMap, RatingsTable, read_ratings
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
    """What is trained on and measured against.

    ``observed`` holds all the ratings, ``train`` those that are not kept aside as ``validation``.
    """

    observed: Observations
    train: Observations
    validation: Observations | None
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
    rows, columns = (IdMap(pa.array(np.arange(size))) for size in train.shape)
    kept, validation = _keep_aside(settings, train)
    pairs = TestPairs(test.rows.numpy(), test.columns.numpy(), test.values.double().numpy())
    return CompletionProblem(train, kept, validation, test, pairs, problem.truth, rows, columns, {})


def _ratings_problem(settings: CompleteSettings) -> CompletionProblem:
    assert settings.ratings is not None
    table = _read(settings, settings.ratings, (False, False))
    row_ids, column_ids = IdMap(table.row_ids), IdMap(table.column_ids)
    inputs = {"ratings_sha256": _digest(settings.ratings)}
    pairs = None
    if settings.test is not None:
        test_table = _read(settings, settings.test, (row_ids.holds_text, column_ids.holds_text))
        pairs = _test_pairs(settings, test_table, row_ids, column_ids)
        inputs["test_sha256"] = _digest(settings.test)
    shape = (len(row_ids), len(column_ids))
    observed = _observations(
        settings, row_ids.indices(table.row_ids), column_ids.indices(table.column_ids), table.values, shape
    )
    test = None
    if pairs is not None and pairs.known.any():
        known = pairs.known
        test = _observations(settings, pairs.rows[known], pairs.columns[known], pairs.values[known], shape)
    train, validation = _keep_aside(settings, observed)
    return CompletionProblem(observed, train, validation, test, pairs, None, row_ids, column_ids, inputs)


def _read(settings: CompleteSettings, path: Path, text_ids: tuple[bool, bool]) -> RatingsTable:
    return read_ratings(
        path,
        columns=settings.column_names,
        separator=settings.separator,
        duplicates="error" if settings.duplicates == "error" else "keep",
        text_ids=text_ids,
    )


def _test_pairs(
    settings: CompleteSettings, table: RatingsTable, row_ids: IdMap, column_ids: IdMap
) -> TestPairs:
    pairs = TestPairs(row_ids.indices(table.row_ids), column_ids.indices(table.column_ids), table.values)
    if settings.unknown == "raise" and not pairs.known.all():
        first = int(pairs.known.argmin())
        raise DataError(
            f"{settings.test}, entry {first + 1}: the pair ({table.row_ids[first]}, "
            f"{table.column_ids[first]}) has an id that {settings.ratings} lacks; drop it, or say "
            "--unknown mean or --unknown nan."
        )
    return pairs


def _observations(
    settings: CompleteSettings, rows: Any, columns: Any, values: Any, shape: tuple[int, int]
) -> Observations:
    duplicates = cast(Duplicates, settings.duplicates)
    return Observations(rows, columns, values, shape, duplicates=duplicates, dtype=DTYPES[settings.dtype])


def _keep_aside(
    settings: CompleteSettings, observed: Observations
) -> tuple[Observations, Observations | None]:
    """Return the part to train on and the validation part, None where it would be empty."""
    if not settings.validation_fraction:
        return observed, None
    train, validation = observed.split(settings.validation_fraction, settings.seed)
    return (train, validation) if len(validation) and len(train) else (observed, None)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
