"""Folders and files written by this project: damage is detected, or makes no difference."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmf_fast import Observations
from dmf_fast.data import as_ratings, load_ratings, save_ratings
from dmf_fast.data.blocks import prepare_blocks
from dmf_fast.distributed import RowBlocks
from dmf_fast.distributed.row_ids import RowIds, read_column_ids
from dmf_fast.estimator import MatrixCompleter
from dmf_fast.files.atomic import read_whole
from dmf_fast.files.checkpoint import load_checkpoint, save_checkpoint
from dmf_fast.files.digests import SUMS
from dmf_fast.observations.file import load_observations, save_observations
from dmf_fast.serving.trained_folder import TrainedFolder
from dmf_fast.training.trial_files import keep_result, load_result
from dmf_fast.tuning.trial import TuningTrial, load_trials, save_trials
from tests.torture import problems
from tests.torture.fuzzing import Target
from tests.torture.mutation import Files

IDENTITY = {"sizes": [3, 4], "options": {"steps": 10, "lr": 0.5}}
JOB = {"lr": 0.5, "data": "abc"}


def digest(*values: Any) -> str:
    """Return a digest of what was read."""
    plain = [value.numpy() if isinstance(value, torch.Tensor) else value for value in values]
    return hashlib.sha256(pickle.dumps(plain)).hexdigest()


def read_store(folder: Path) -> object:
    """Return what a store holds."""
    ratings = load_ratings(folder / "store")
    ratings.select(ratings.known).observations(duplicates="last").layout()
    ids = [list(map(str, side.ids.to_pylist())) for side in (ratings.row_ids, ratings.column_ids)]
    times = None if ratings.times is None else ratings.times.tolist()
    return digest(
        ratings.rows.tolist(), ratings.columns.tolist(), ratings.values.tolist(), times, ids, ratings.bad_rows
    )


def read_blocks(folder: Path) -> object:
    """Return what a folder of row blocks holds, which must be whole."""
    path = folder / "blocks"

    def read() -> object:
        blocks = RowBlocks.open(path)
        (part,) = blocks.parts
        ids = RowIds.of(blocks, path)
        entries = [part.rows.tolist(), part.columns.tolist(), part.values.tolist(), blocks.shape]
        return digest(*entries, ids.map.ids.to_pylist(), ids.rows, read_column_ids(path).ids.to_pylist())

    return read_whole(path, read)


def read_observations(folder: Path) -> object:
    """Return what an observation file holds."""
    observed = load_observations(folder / "observations")
    weights = observed.weights
    return digest(
        observed.rows.tolist(), observed.columns.tolist(), observed.values.tolist(), observed.shape,
        None if weights is None else weights.tolist(),
    )  # fmt: skip


def read_trained(folder: Path) -> object:
    """Return what a trained folder predicts and leaves out."""
    trained = TrainedFolder.open(folder / "model")
    rows, columns = (np.arange(len(ids), dtype=np.int64) for ids in (trained.row_ids, trained.column_ids))
    pairs = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
    seen = trained.seen
    return digest(
        trained.predictor.predict(*pairs).values.tolist(), seen.offsets.tolist(), seen.columns.tolist(),
        list(map(str, trained.row_ids.ids.to_pylist())), list(map(str, trained.column_ids.ids.to_pylist())),
        trained.two_factors.b.tolist(),
    )  # fmt: skip


def read_estimator(folder: Path) -> object:
    """Return what an estimator is, predicts and recommends."""
    completer = MatrixCompleter.load(folder / "estimator")
    observed = completer._fitted.observed
    users = [user for user in completer.row_ids_.ids.to_pylist() if user != ""]
    return digest(
        json.dumps(completer.get_params(deep=False), sort_keys=True, default=str), completer.noise_variance_,
        completer.predict([(user, item) for user in users for item in completer.column_ids_.ids.to_pylist()]),
        observed if observed is None else (observed.rows.tolist(), observed.values.tolist()),
        [str(part) for part in completer.recommend(users, 2, exclude_seen=observed is not None)],
    )  # fmt: skip


def read_checkpoint(folder: Path) -> object:
    """Return what a checkpoint holds."""
    return digest(repr(load_checkpoint(folder / "checkpoint", IDENTITY)))


def read_trials(folder: Path) -> object:
    """Return the trials of a search."""
    return digest(repr(load_trials(folder / "trials.json", JOB)))


def read_result(folder: Path) -> object:
    """Return the kept result of a trial."""
    ended = load_result(problems.trial(), folder / "trial")
    result = ended.result
    facts = (result.steps, result.best_step, result.stopped_because, result.engine, result.seconds)
    return digest([factor.tolist() for factor in ended.factors], result.history.table.to_pydict(), facts)


def targets() -> Iterator[Target]:
    """Yield a target for every kind of folder and file that this project writes and reads."""
    for name, seeds, use in (
        ("stores of ratings", _stores, read_store),
        ("observation files", _observation_files, read_observations),
        ("trained folders", _trained, read_trained),
        ("estimators", _estimators, read_estimator),
        ("checkpoints", _checkpoints, read_checkpoint),
        ("trials of a search", _trials, read_trials),
        ("results of trials", _results, read_result),
        ("row blocks", _row_blocks, read_blocks),
    ):
        yield Target(name, seeds, use, ours=True)


def files_below(folder: Path) -> Files:
    """Return all files below a folder, by their names there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _stores(folder: Path) -> list[Files]:
    with_times = (["ann", "bob", "ann"], [7, 9, 9], [4.5, 3.0, 2.0], [11, 12, 13])
    inputs = []
    for number, columns in enumerate((with_times, with_times[:3])):
        place = folder / str(number)
        save_ratings(as_ratings(columns), place / "store")
        inputs.append(files_below(place))
    return inputs


def _row_blocks(folder: Path) -> list[Files]:
    (folder / "ratings.csv").write_text("ann,7,4.5\nbob,9,3\nann,9,2\nbob,9,many\n")
    (folder / "out").mkdir()
    prepare_blocks(folder / "ratings.csv", folder / "out" / "blocks", 2)
    return [files_below(folder / "out")]


def _observation_files(folder: Path) -> list[Files]:
    inputs = []
    for number, weights in enumerate((None, [1.0, 0.5, 2.0])):
        place = folder / str(number)
        place.mkdir()
        observed = Observations([0, 1, 2], [3, 0, 1], [1.5, 2.5, -1.0], (3, 4), weights=weights)
        save_observations(observed, place / "observations")
        inputs.append(files_below(place))
    return inputs


def _trained(folder: Path) -> list[Files]:
    kept = ("trained.json", "row_ids", "column_ids", "model-depth", "seen", SUMS)
    problems.train_by_command(folder, "model")
    files = files_below(folder)
    return [{name: data for name, data in files.items() if name.partition("/")[2].startswith(kept)}]


def _estimators(folder: Path) -> list[Files]:
    inputs = []
    for keep_ratings in (True, False):
        place = folder / str(keep_ratings)
        place.mkdir()
        problems.completer(0, keep_ratings=keep_ratings).save(place / "estimator")
        inputs.append(files_below(place))
    return inputs


def _checkpoints(folder: Path) -> list[Files]:
    state = {"step": 7, "loss": 0.5, "best": None, "factors": [torch.ones(2, 3), torch.zeros(3)]}
    save_checkpoint(folder / "checkpoint", IDENTITY, state)
    return [files_below(folder)]


def _trials(folder: Path) -> list[Files]:
    first = TuningTrial(0, "complete", {"lr": 0.5, "hidden": 4}, 0.9, 10, 20, 0.5, {10: 0.9, 20: 1.0})
    trials = [first, replace(first, number=1, state="diverged", validation_rmse=None)]
    save_trials(folder / "trials.json", JOB, trials)
    return [files_below(folder)]


def _results(folder: Path) -> list[Files]:
    from dmf_fast.training import fit_many

    (ended,) = fit_many([problems.trial()], progress=False).results
    keep_result(ended, folder / "trial")
    return [files_below(folder)]
