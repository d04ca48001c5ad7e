"""A trained folder: what is written comes back, and a folder that is not whole is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dmf_fast import DeepMatrixFactorization
from dmf_fast.data import DataError, IdMap, ObjectIdMap
from dmf_fast.serving import Predictor, SeenColumns
from dmf_fast.serving.trained_folder import TrainedFolder, model_name, write_trained_folder

ROW_IDS, COLUMN_IDS = IdMap(["ann", "bob"]), IdMap([10, 20, 30])
SEEN = SeenColumns.of_pairs([0, 1, 1], [2, 0, 1], (2, 3))
FILES = ("trained.json", "row_ids.parquet", "column_ids.parquet", "seen.safetensors", model_name(3))


def predictor(depth: int, shape: tuple[int, int] = (2, 3)) -> Predictor:
    model = DeepMatrixFactorization(shape, depth, 4, init_scale=1.0, bias=True, seed=depth)
    return Predictor(model, 3.5, 1.0, 5.0, clip=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with models of depth 3, which counts, and 2."""
    path = tmp_path / "below" / "folder"
    write_trained_folder(path, [predictor(3), predictor(2)], ROW_IDS, COLUMN_IDS, SEEN)
    return path


@pytest.mark.parametrize(("asked", "expected"), [(None, 3), (2, 2), (3, 3)])
def test_what_is_written_comes_back(folder: Path, asked: int | None, expected: int) -> None:
    opened = TrainedFolder.open(folder, asked)

    pairs = ([0, 1, -1], [2, 0, 1])
    written = predictor(expected)
    assert np.array_equal(opened.predictor.predict(*pairs).values, written.predict(*pairs).values)
    assert opened.row_ids.ids.to_pylist() == ["ann", "bob"]
    assert opened.column_ids.ids.to_pylist() == [10, 20, 30]
    assert opened.seen.columns.tolist() == [2, 0, 1]
    assert opened.two_factors.shape == (2, 3)


def test_a_depth_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no model of depth 7, only 3, 2$"):
        TrainedFolder.open(folder, 7)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "spoilt"])
def test_a_folder_that_is_not_whole_is_refused(folder: Path, name: str, damage: str) -> None:
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"spoilt")

    with pytest.raises(DataError, match=str(folder)):
        _ = TrainedFolder.open(folder).seen


def test_ids_of_another_model_are_refused(folder: Path) -> None:
    IdMap([1, 2, 3, 4]).save(folder / "column_ids.parquet")

    with pytest.raises(DataError, match="4 column ids for a model of shape"):
        TrainedFolder.open(folder)


def test_a_folder_whose_writing_was_interrupted_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Predictor, path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_trained_folder(folder, [predictor(3)], ROW_IDS, COLUMN_IDS, SEEN)

    with pytest.raises(DataError, match=r"trained\.json"):
        TrainedFolder.open(folder)


def test_what_does_not_fit_together_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different depths"):
        write_trained_folder(tmp_path / "out", [], ROW_IDS, COLUMN_IDS, SEEN)
    with pytest.raises(ValueError, match="different depths"):
        write_trained_folder(tmp_path / "out", [predictor(2), predictor(2)], ROW_IDS, COLUMN_IDS, SEEN)
    with pytest.raises(ValueError, match=r"got \(2, 4\)"):
        write_trained_folder(tmp_path / "out", [predictor(2, (2, 4))], ROW_IDS, COLUMN_IDS, SEEN)
    other = SeenColumns.of_pairs([0], [0], (5, 3))
    with pytest.raises(ValueError, match=r"got \(5, 3\)"):
        write_trained_folder(tmp_path / "out", [predictor(2)], ROW_IDS, COLUMN_IDS, other)
    assert not (tmp_path / "out").exists()


def test_ids_that_files_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make them text"):
        write_trained_folder(tmp_path, [predictor(2)], ObjectIdMap([(1, 2), (3, 4)]), COLUMN_IDS, SEEN)
