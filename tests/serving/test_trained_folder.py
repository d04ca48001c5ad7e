"""A trained folder: what is written is read, and an incomplete folder is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dmf_fast import DeepMatrixFactorization
from dmf_fast.data import DataError, IdMap, ObjectIdMap
from dmf_fast.files.digests import write_sums
from dmf_fast.serving import Predictor, SeenColumns
from dmf_fast.serving.trained_folder import TrainedFolder, model_name, write_trained_folder
from tests.publishing import assert_old_until_new

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
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_folder_that_is_not_whole_is_refused(folder: Path, name: str, damage: str) -> None:
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"damaged")

    with pytest.raises(DataError, match=str(folder)):
        _ = TrainedFolder.open(folder).seen


def test_ids_of_another_model_are_refused(folder: Path) -> None:
    IdMap([1, 2, 3, 4]).save(folder / "column_ids.parquet")
    with pytest.raises(DataError, match=r"column_ids\.parquet does not match SHA256SUMS"):
        TrainedFolder.open(folder)
    write_sums(folder)
    with pytest.raises(DataError, match="4 column ids for a model of shape"):
        TrainedFolder.open(folder)


@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
def test_a_flipped_byte_is_noticed_wherever_it_is(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 20))
    for place in places:
        (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=str(folder)):
            _ = [TrainedFolder.open(folder, depth).seen for depth in (3, 2)]


@pytest.mark.parametrize(
    "facts",
    [
        None,
        [],
        {},
        {"depths": []},
        {"depths": [0]},
        {"depths": ["3"]},
        {"depths": [3.0]},
        {"depths": 3},
        {"version": 1},
        {"format": 5},
        {"more": 1},
        '{"depths": ' + "[" * 100_000,
    ],
)
def test_facts_that_nobody_writes_are_a_sentence(folder: Path, facts: object) -> None:
    path = folder / "trained.json"
    if isinstance(facts, dict) and facts:
        facts = json.loads(path.read_text()) | facts
    path.write_text(facts if isinstance(facts, str) else json.dumps(facts))
    write_sums(folder)
    with pytest.raises(DataError, match="is not a folder written by dmf-fast complete, or is damaged"):
        TrainedFolder.open(folder)


def test_whatever_write_fails_the_old_model_stays_and_no_stray(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path) -> None:
        write_trained_folder(path, [predictor(2)], IdMap(["eve", "joe"]), COLUMN_IDS, SEEN)

    write(folder.parent.parent / "new")
    assert_old_until_new(folder, folder.parent.parent / "new", lambda: write(folder), monkeypatch)


def test_what_is_no_part_of_a_model_is_never_replaced(folder: Path) -> None:
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"holds thesis\.txt, which does not belong to a trained model"):
        write_trained_folder(folder, [predictor(2)], ROW_IDS, COLUMN_IDS, SEEN)
    assert (folder / "thesis.txt").read_text() == "precious"
    assert TrainedFolder.open(folder).predictor.model.dims[1:-1] == (4, 4)


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
    with pytest.raises(DataError, match="convert them to text"):
        write_trained_folder(tmp_path, [predictor(2)], ObjectIdMap([(1, 2), (3, 4)]), COLUMN_IDS, SEEN)
