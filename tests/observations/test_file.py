"""Observations written to a file and mapped back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dmf_fast import Observations, completion_loss, load_observations, save_observations
from dmf_fast.files.tensors import save_tensors
from dmf_fast.observations.validation import DTYPES


def some_observations(dtype: torch.dtype = torch.float32, weighted: bool = False) -> Observations:
    generator = torch.Generator().manual_seed(0)
    rows, columns = (torch.rand(300, 200, generator=generator) < 0.1).nonzero(as_tuple=True)
    order = torch.randperm(len(rows), generator=generator)
    values = torch.randn(len(rows), generator=generator).to(dtype)
    weights = torch.rand(len(rows), generator=generator).to(dtype) if weighted else None
    return Observations(rows[order], columns[order], values, (300, 201), weights=weights)


def save_sealed(tensors: dict[str, Tensor], path: Path, version: str = "2") -> None:
    """Write what has a right digest: only its contents can be wrong."""
    save_tensors(tensors, path, "dmf_fast observations", version)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_loading_gives_back_the_same_entries_and_the_same_loss(
    tmp_path: Path, dtype: torch.dtype, weighted: bool
) -> None:
    before = some_observations(dtype, weighted)
    save_observations(before, tmp_path / "ratings")
    after = load_observations(tmp_path / "ratings")
    assert (after.shape, after.nnz, after.dtype) == (before.shape, before.nnz, before.dtype)
    assert torch.equal(after.rows, before.rows)
    assert torch.equal(after.columns, before.columns)
    assert torch.equal(after.values, before.values)
    if weighted:
        assert torch.equal(after.weights, before.weights)
    else:
        assert after.weights is None
    factors = [torch.randn(5, 201).to(dtype), torch.randn(300, 5).to(dtype)]
    assert torch.equal(completion_loss(factors, after), completion_loss(factors, before))


def test_loaded_observations_can_be_split_converted_transposed_and_given_other_values(tmp_path: Path) -> None:
    before = some_observations()
    save_observations(before, tmp_path / "ratings")
    after = load_observations(tmp_path / "ratings")
    assert torch.equal(after.to(dtype=torch.float64).values, before.values.double())
    assert torch.equal(after.transpose().rows, before.columns)
    assert torch.equal(after.with_values(-before.values).values, -before.values)
    for part, expected in zip(after.split(0.2, seed=1), before.split(0.2, seed=1), strict=True):
        assert torch.equal(part.rows, expected.rows)
        assert torch.equal(part.values, expected.values)


def test_no_entries_are_saved_too(tmp_path: Path) -> None:
    save_observations(Observations([], [], [], (3, 0)), tmp_path / "none")
    loaded = load_observations(tmp_path / "none")
    assert (loaded.shape, loaded.nnz) == ((3, 0), 0)


def test_saving_replaces_an_older_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    save_observations(some_observations(), tmp_path / "ratings")
    save_observations(Observations([0], [1], [2.5]), tmp_path / "ratings")
    assert load_observations(tmp_path / "ratings").values.tolist() == [2.5]
    assert [path.name for path in tmp_path.iterdir()] == ["ratings"]


def test_a_file_in_the_place_of_the_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        save_observations(Observations([0], [1], [2.5]), tmp_path / "file" / "ratings")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ratings does not exist"):
        load_observations(tmp_path / "ratings")


def test_a_text_file_is_no_observations_file(tmp_path: Path) -> None:
    (tmp_path / "ratings").write_text("1\t2\t3\n" * 10)
    with pytest.raises(ValueError, match="is not a file of observations"):
        load_observations(tmp_path / "ratings")


def test_tensors_of_another_program_are_no_observations(tmp_path: Path) -> None:
    save_file({"layout": torch.zeros(64, dtype=torch.uint8)}, tmp_path / "model")
    with pytest.raises(ValueError, match="is not a file of observations"):
        load_observations(tmp_path / "model")


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    save_observations(some_observations(), tmp_path / "ratings")
    content = (tmp_path / "ratings").read_bytes()
    (tmp_path / "ratings").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_observations(tmp_path / "ratings")


def test_a_layout_with_an_index_outside_its_tile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ratings"
    save_observations(some_observations(), path)
    tensors = load_file(path)
    tensors["layout"][-25:] = -1
    save_sealed(tensors, path)
    with pytest.raises(ValueError, match="its layout is invalid or of another version"):
        load_observations(path)


@pytest.mark.parametrize(("name", "number"), [("values", float("nan")), ("weights", -1.0)])
def test_numbers_that_observations_would_refuse_are_refused(tmp_path: Path, name: str, number: float) -> None:
    path = tmp_path / "ratings"
    save_observations(some_observations(weighted=True), path)
    tensors = load_file(path)
    tensors[name][7] = number
    save_sealed(tensors, path)
    with pytest.raises(ValueError, match=name):
        load_observations(path)


def test_a_file_of_another_version_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "ratings"
    save_observations(some_observations(), path)
    save_sealed(load_file(path), path, version="1")
    with pytest.raises(ValueError, match="its version is 1, but this dmf_fast reads version 2"):
        load_observations(path)


@pytest.mark.parametrize("change", ["values", "weights"])
def test_numbers_that_do_not_belong_to_the_layout_are_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "ratings"
    save_observations(some_observations(weighted=True), path)
    tensors = load_file(path)
    tensors[change] = tensors[change][:-1].clone()
    save_sealed(tensors, path)
    with pytest.raises(ValueError, match=f"{change} must hold one number for each"):
        load_observations(path)


def test_no_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "ratings"
    save_observations(Observations([0, 1], [1, 0], [2.5, 3.5], weights=[1.0, 2.0]), path)
    content = path.read_bytes()
    for place in range(0, len(content), 11):  # a second for all of them
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a file of observations, or is damaged") as caught:
            load_observations(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"more": torch.zeros(1)},
        {"values": torch.zeros(0, dtype=torch.int64)},
        {"layout": torch.zeros(2, 4, dtype=torch.int64)},
        {"layout": torch.zeros(0, dtype=torch.int64)},
        {"values": torch.zeros(3, 1)},
    ],
)
def test_tensors_of_other_names_types_or_shapes_are_refused(
    tmp_path: Path, change: dict[str, Tensor]
) -> None:
    path = tmp_path / "ratings"
    save_observations(Observations([0, 1, 2], [1, 0, 2], [2.5, 3.5, 1.0]), path)
    save_sealed(load_file(path) | change, path)
    with pytest.raises(ValueError, match="ratings is not a file of observations, or is damaged"):
        load_observations(path)
