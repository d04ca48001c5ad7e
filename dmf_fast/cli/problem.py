"""Files, or the synthetic matrix, as a completion problem."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.cli.options import DataOptions, JobOptions
from dmf_fast.cli.streams import say
from dmf_fast.completion import validation_folds
from dmf_fast.completion.folds import Parts
from dmf_fast.data import BadRows, DataError, IdMap, Pairs, Ratings, open_ratings, read_ratings
from dmf_fast.evaluation import HeldOut, time_split
from dmf_fast.experiments import PaperSetting
from dmf_fast.observations import Observations


@dataclass(frozen=True)
class CompletionProblem:
    """What is trained on and measured against.

    Attributes:
        observed: all training ratings.
        folds: training and validation parts of them; see `dmf_fast.completion.validation_folds`.
        test: the test ratings, with index -1 for ids without training ratings; None without any.
        known_test: the test ratings whose ids are known, to be measured while training.
        truth: the whole matrix, ``(m, n)``, if it is known.
        row_ids: of the matrix; None for row blocks, which store the ids themselves.
        column_ids: of the matrix.
        source: what ``observed`` was read from.
        bad_rows: number of rows that were skipped, in all files.
        seconds: time spent reading.

    """

    observed: Observations
    folds: list[Parts]
    test: HeldOut | None
    known_test: Observations | None
    truth: Tensor | None
    row_ids: IdMap | None
    column_ids: IdMap
    source: str
    bad_rows: int = 0
    seconds: float = 0.0

    @property
    def row_count(self) -> int:
        """Number of rows of the matrix; row blocks may have room for more."""
        return self.observed.row_count

    @property
    def validation_count(self) -> int:
        """Number of validation entries, over all folds."""
        return sum(len(validation) for _, validation in self.folds if validation is not None)


def load_problem(options: JobOptions) -> CompletionProblem:
    """Read the files of ``options``, or draw the paper's matrix if it names none.

    Bad rows are reported on standard error. Raises a `DataError` if a file cannot be used.
    """
    if options.data.reproducible:
        raise ValueError("--reproducible needs row blocks: write them with dmf-fast prepare, or omit it")
    return _synthetic_problem(options) if options.ratings is None else _JobFiles(options).problem()


def in_folds(entries: int, folds: int) -> str:
    """Return in words how many validation entries there are, given the number over all folds.

    >>> in_folds(8000, 2)
    '4,000 in each of 2 folds'
    """
    return f"{entries:,}" if folds < 2 else f"{round(entries / folds):,} in each of {folds} folds"


def read_held_out(path: Path, data: DataOptions, row_ids: IdMap, column_ids: IdMap) -> Ratings:
    """Return the ratings of a test or validation file, whose ids are read as text where these are text.

    Bad rows are reported on standard error. Raises a `DataError` if the file cannot be used.
    """
    text_ids = (row_ids.holds_text, column_ids.holds_text)
    ratings = read_ratings(path, data.read_options(dtype=data.dtype, text_ids=text_ids))
    echo_bad_rows(path, ratings.bad_rows)
    if data.duplicates == "error":
        ratings.refuse_duplicates()
    return ratings


def echo_bad_rows(source: Path, bad_rows: BadRows) -> None:
    """Print the number of skipped rows of a file, if any, and the first ten of them on standard error."""
    if bad_rows:
        say(f"{source}: {bad_rows}")


def refuse_unknown(pairs: Pairs, known: NDArray[np.bool_], owner: str) -> None:
    """Raise a `DataError` that names the first of ``pairs`` with an id that ``owner`` does not have."""
    if not known.all():
        first = int(known.argmin())
        raise DataError(
            f"{pairs.place(first)}: the pair {pairs.pair_text(first)} has an id that {owner} lacks; drop it, "
            "or pass --unknown mean or --unknown nan"
        )


def no_known_pair(path: Path, owner: Path | None) -> DataError:
    """Return the error of a file with no pair of ids that ``owner`` has."""
    return DataError(f"{path} has no pair of ids that occur in {owner}")


def held_out(ratings: Ratings) -> HeldOut:
    """Return mapped ratings as test ratings."""
    rows, columns = ratings.rows.astype(np.int64), ratings.columns.astype(np.int64)
    return HeldOut(rows, columns, ratings.values.astype(np.float64))


def _synthetic_problem(options: JobOptions) -> CompletionProblem:
    problem = PaperSetting(seed=options.completion.seed).problem()
    observed, test = (
        part.to(dtype=getattr(torch, options.data.dtype)) for part in (problem.train, problem.test)
    )
    rows, columns = (IdMap(np.arange(size)) for size in observed.shape)
    return CompletionProblem(
        observed,
        validation_folds(observed, options.completion),
        HeldOut.of(test),
        test,
        problem.truth,
        rows,
        columns,
        "The paper's setting",
    )


@dataclass
class _JobFiles:
    """Reads the files of a job into memory."""

    options: JobOptions
    bad_rows: int = 0

    def problem(self) -> CompletionProblem:
        started, options = time.perf_counter(), self.options
        ratings = self._ratings()
        test_ratings = self._others(options.data.test, ratings)
        test = None if test_ratings is None else held_out(test_ratings)
        known_test = None
        if test_ratings is not None and test_ratings.known.any():
            known_test = self._observations(test_ratings.select(test_ratings.known))
        observed = self._observations(ratings)
        return CompletionProblem(
            observed,
            self._folds(ratings, observed),
            test,
            known_test,
            None,
            ratings.row_ids,
            ratings.column_ids,
            str(options.ratings),
            self.bad_rows,
            time.perf_counter() - started,
        )

    def _ratings(self) -> Ratings:
        options = self.options
        assert options.ratings is not None
        timed = options.data.split == "time"
        read = options.data.read_options(dtype=options.data.dtype, times=timed)
        ratings = open_ratings(options.ratings, read, cache=options.data.cache)
        if timed and ratings.times is None:
            raise DataError(f"{options.ratings} is a store without times: --split time needs them")
        self.bad_rows += ratings.bad_rows.count
        echo_bad_rows(options.ratings, ratings.bad_rows)
        return ratings

    def _others(self, path: Path | None, ratings: Ratings) -> Ratings | None:
        """Return the ratings of another file, indexed like the first ones."""
        if path is None:
            return None
        others = read_held_out(path, self.options.data, ratings.row_ids, ratings.column_ids)
        self.bad_rows += others.bad_rows.count
        mapped = others.mapped_to(ratings.row_ids, ratings.column_ids)
        if self.options.data.unknown == "raise":
            refuse_unknown(others, mapped.known, str(self.options.ratings))
        return mapped

    def _folds(self, ratings: Ratings, observed: Observations) -> list[Parts]:
        """Return the folds of the search: training and validation entries."""
        options = self.options
        if options.data.validation is not None:
            others = self._others(options.data.validation, ratings)
            if others is None or not others.known.any():
                raise no_known_pair(options.data.validation, options.ratings)
            return [(observed, self._observations(others.select(others.known)))]
        if options.data.split == "random":
            return validation_folds(observed, options.completion)
        if len(observed) != len(ratings):
            raise DataError(f"{options.ratings} has duplicate pairs; --split time needs each pair once")
        train, validation = time_split(observed, ratings.times, options.completion.validation_fraction)
        return [(train, validation) if len(validation) and len(train) else (observed, None)]

    def _observations(self, ratings: Ratings) -> Observations:
        return ratings.observations(
            duplicates=self.options.data.duplicates, dtype=getattr(torch, self.options.data.dtype)
        )
