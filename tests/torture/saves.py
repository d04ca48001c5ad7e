"""Everything that saves: how it starts, how it resumes after it was stopped, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from dmf_fast.data import ReadOptions, as_ratings, open_ratings, save_ratings
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.files.atomic import atomic_file, read_whole
from dmf_fast.files.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from dmf_fast.observations.file import save_observations
from dmf_fast.training import fit, fit_many
from tests.torture import problems
from tests.torture.problems import QUICK, command, ratings_text
from tests.torture.targets.folders import (
    IDENTITY,
    digest,
    read_blocks,
    read_estimator,
    read_observations,
    read_store,
    read_trained,
)

TRAINING = (*QUICK, "--steps", "60", "--evaluate-every", "10", "--checkpoint-every", "10")


class CommandFailed(Exception):
    """A command ended with another exit code than 0."""

    def __init__(self, code: int, stderr: str) -> None:
        super().__init__(f"exit code {code}: {stderr}")
        self.code, self.stderr = code, stderr


@dataclass(frozen=True)
class Save:
    """Something that saves into a folder.

    Attributes:
        name: of it.
        before: leaves the old result; nothing is there before it.
        save: makes the new result, or goes on where it was stopped.
        look: what is there, ``None`` for nothing; raises where it is not whole.
        arguments: of ``dmf-fast``, where a command does the same, for a process of its own.
        longest_chain: how often it may be stopped before it comes to its end.
        races: whether several processes may save into one folder.
        free: files whose number differs from run to run, as a pattern.

    """

    name: str
    before: Callable[[Path], object]
    save: Callable[[Path], object]
    look: Callable[[Path], object]
    arguments: Callable[[Path], list[object]] | None = None
    longest_chain: int = 2
    races: bool = True

    def names(self, folder: Path) -> list[str]:
        """Return the names below a folder, versions of a checkpoint being alike."""
        found = {
            re.sub(r"version-\d+", "version", path.relative_to(folder).as_posix())
            for path in folder.rglob("*")
        }
        return sorted(found)


def saves() -> list[Save]:
    """Return everything that saves."""
    return [
        *_of_data(),
        *_of_training(),
        *(_exported(suffix) for suffix in (".npz", ".safetensors", ".parquet")),
        *(_predicted(suffix) for suffix in (".csv", ".parquet")),
        _recommended(),
        _prepared(),
        _trained("complete", ()),
        _trained("tune", ("--trials", "3")),
        _reproduced(),
    ]


def _of_data() -> list[Save]:
    def store(seed: int) -> Callable[[Path], object]:
        return lambda folder: save_ratings(as_ratings(_columns(seed)), folder / "store")

    def cache(seed: int) -> Callable[[Path], object]:
        def save(folder: Path) -> None:
            text = ratings_text(seed)
            source = folder / "ratings.csv"
            if not source.exists() or source.read_text() != text:
                with atomic_file(source) as partial:
                    partial.write_text(text)
            open_ratings(source, ReadOptions(strict=True), cache=folder / "store")

        return save

    def observed(seed: int) -> Callable[[Path], object]:
        return lambda folder: save_observations(problems.observations(seed), folder / "observations")

    def estimator(seed: int) -> Callable[[Path], object]:
        return lambda folder: problems.completer(seed).save(folder / "estimator")

    look_at_store = _if_there("store", read_store)
    return [
        Save("save_ratings", store(1), store(2), look_at_store),
        Save("open_ratings with a cache", cache(1), cache(2), look_at_store),
        Save("save_observations", observed(1), observed(2), _if_there("observations", read_observations)),
        Save("MatrixCompleter.save", estimator(1), estimator(2), _if_there("estimator", read_estimator)),
    ]


def _of_training() -> list[Save]:
    def checkpoint(seed: int) -> Callable[[Path], object]:
        state = {"step": seed, "factors": problems.factors(seed)}

        def save(folder: Path) -> None:
            if _look_at_checkpoint(folder) != digest(repr(state)):
                save_checkpoint(folder / "checkpoint", IDENTITY, state)

        return save

    return [
        Save("save_checkpoint", checkpoint(1), checkpoint(2), _look_at_checkpoint, races=False),
        Save(
            "fit with checkpoints",
            _nothing,
            _fit,
            _if_there("result", _look_at_bytes),
            longest_chain=4,
            races=False,
        ),
        Save(
            "fit_many", _nothing, _fit_many, _if_there("result", _look_at_bytes), longest_chain=4, races=False
        ),
        Save("cached tables", _nothing, _cache_tables, _look_at_tables, races=False),
    ]


def _fit(folder: Path) -> None:
    factors, trial = problems.factors(), problems.trial(steps=200)
    keep = folder / "checkpoint"
    result = fit(
        factors, trial.train, trial.optimizer, trial.options, recording=trial.recording,
        checkpoint=keep, resume=has_checkpoint(keep),
    )  # fmt: skip
    _write(folder / "result", factors, result.history.table)


def _fit_many(folder: Path) -> None:
    trials = [problems.trial(seed, steps=100) for seed in range(3)]
    ended = fit_many(trials, folder=folder / "trials", workers=2)
    factors = [factor for one in ended.results for factor in one.factors]
    _write(folder / "result", factors, ended.history())


def _write(path: Path, factors: list[torch.Tensor], history: Any) -> None:
    rows = history.drop_columns("seconds").to_pydict()
    with atomic_file(path) as partial:
        partial.write_text(json.dumps([[factor.tolist() for factor in factors], rows]))


def _cache_tables(folder: Path) -> None:
    for number in range(5):
        cached_table(folder / f"table-{number}", lambda n=number: _table(n))  # type: ignore[misc]


def _table(number: int) -> Any:
    import pyarrow as pa

    return pa.table({"n": np.arange(2000) * number})


def _look_at_tables(folder: Path) -> object:
    tables = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    for path in tables:
        assert read_whole(path, lambda path=path: pq.read_table(path / "table")).equals(
            _table(int(path.name[-1]))
        )
    return None if len(tables) < 5 else "five tables"


def _look_at_checkpoint(folder: Path) -> object:
    if not has_checkpoint(folder / "checkpoint"):
        return None
    return digest(repr(load_checkpoint(folder / "checkpoint", IDENTITY)))


def _exported(suffix: str) -> Save:
    def export(name: str) -> Callable[[Path], list[object]]:
        return lambda folder: ["export", folder / name, folder / f"out{suffix}", "--overwrite"]

    return _by_command(f"export to {suffix}", export, f"out{suffix}")


def _predicted(suffix: str) -> Save:
    def predict(name: str) -> Callable[[Path], list[object]]:
        return lambda folder: [
            "predict", folder / name, folder / "pairs.csv", "--out", folder / f"out{suffix}", "--overwrite",
        ]  # fmt: skip

    return _by_command(f"predict into {suffix}", predict, f"out{suffix}")


def _recommended() -> Save:
    def recommend(name: str) -> Callable[[Path], list[object]]:
        return lambda folder: [
            "recommend",
            folder / name,
            "--all",
            "--out",
            folder / "out.csv",
            "--overwrite",
        ]

    return _by_command("recommend --all", recommend, "out.csv")


def _prepared() -> Save:
    def prepare(name: str) -> Callable[[Path], list[object]]:
        return lambda folder: [
            "prepare", folder / f"{name}.csv", "--out", folder / "blocks", "--blocks", "3", "--overwrite",
        ]  # fmt: skip

    def before(folder: Path) -> None:
        for name, seed in (("old", 1), ("new", 2)):
            if not (folder / f"{name}.csv").exists():
                (folder / f"{name}.csv").write_text(ratings_text(seed))
        _run(prepare("old")(folder))

    new = prepare("new")
    look = _if_there("blocks", read_blocks)
    return Save("prepare", before, lambda folder: _run(new(folder)), look, new)


def _by_command(name: str, words: Callable[[str], Callable[[Path], list[object]]], out: str) -> Save:
    """Return what writes something of the trained model "old", and then the same of "new"."""

    def before(folder: Path) -> None:
        if not (folder / "pairs.csv").exists():
            (folder / "pairs.csv").write_text(ratings_text(5))
        for model, seed in (("old", 1), ("new", 2)):
            if not (folder / model).exists():
                problems.train_by_command(folder, model, seed)
        _run(words("old")(folder))

    new = words("new")
    return Save(name, before, lambda folder: _run(new(folder)), _if_there(out, _look_at_bytes), new)


def _trained(name: str, more: tuple[str, ...]) -> Save:
    def words(folder: Path) -> list[object]:
        # Before there are settings, nothing can be resumed, and what was to be overwritten is there still.
        begun = (folder / "model.partial" / "checkpoints" / "settings.json").exists()
        mode = "--resume" if begun else "--overwrite"
        return [name, folder / "ratings.csv", "--out", folder / "model", *TRAINING, *more, mode]

    def before(folder: Path) -> None:
        problems.train_by_command(folder, "model", seed=3)
        if not (folder / "ratings.csv").exists():
            (folder / "ratings.csv").write_text(ratings_text(4))

    return Save(name, before, lambda folder: _run(words(folder)), _if_there("model", read_trained), words, 4)


def _reproduced() -> Save:
    def words(folder: Path) -> list[object]:
        return ["reproduce", "norms", "--quick", "--quiet", "--out", folder / "paper", "--threads", "1"]

    def look(folder: Path) -> object:
        results = folder / "paper" / "results.json"
        if not results.exists():
            return None
        (section,) = json.loads(results.read_text())["sections"].values()
        page = folder / "paper" / "report.html"
        assert not page.exists() or page.read_text().rstrip().endswith("</html>")
        return digest(json.dumps([section["claims"], section["tables"]], sort_keys=True))

    return Save("reproduce", _nothing, lambda folder: _run(words(folder)), look, words, 10, races=False)


def _nothing(folder: Path) -> None:
    pass


def _run(words: list[object]) -> None:
    ended = command(*words)
    if ended.code:
        raise CommandFailed(ended.code, ended.stderr)


def _columns(seed: int) -> tuple[list[int], list[str], list[float]]:
    observed = problems.observations(seed)
    items = [f"film {j}" for j in observed.columns.tolist()]
    return observed.rows.tolist(), items, observed.values.tolist()


def _if_there(name: str, look: Callable[[Path], object]) -> Callable[[Path], object]:
    def looked(folder: Path) -> object:
        if not (folder / name).exists():
            return None
        if look is _look_at_bytes:
            return read_whole(folder / name, lambda: look(folder / name))
        return look(folder)

    return looked


def _look_at_bytes(path: Path) -> object:
    """Return a digest of a file, or of the files of a folder."""
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    return [(one.name, hashlib.sha256(one.read_bytes()).hexdigest()) for one in paths]


def copied(source: Path, target: Path) -> Path:
    """Return a copy of a folder, which replaces another one."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, symlinks=True))
