"""Folders of checkpoints are complete or reported as damaged, and their content is bit-identical."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dmf_fast.files.checkpoint import held_folder, load_checkpoint, save_checkpoint
from dmf_fast.files.digests import write_sums
from dmf_fast.files.packing import pack, unpack

IDENTITY = {"optimizer": "SGD"}


def saved(folder: Path, step: int = 20) -> None:
    save_checkpoint(folder, IDENTITY, {"step": step, "factors": [torch.arange(6.0).view(2, 3)]})


def test_what_a_killed_save_leaves_behind_is_ignored_and_cleared_away(tmp_path: Path) -> None:
    saved(tmp_path)
    (newest,) = tmp_path.glob("version-*")
    number = int(newest.name.removeprefix("version-"))
    stray = f".{socket.gethostname()}-{2**22 + 1}-0.version-{number + 1}.partial"  # of no living process
    for leftover in (stray, f"version-{number - 1}"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "state.json").write_text("{")
    assert load_checkpoint(tmp_path, IDENTITY)["step"] == 20
    saved(tmp_path, 60)
    assert load_checkpoint(tmp_path, IDENTITY)["step"] == 60
    assert len(list(tmp_path.glob("*-*"))) == 1


def test_what_a_killed_save_leaves_behind_goes_with_the_next_run_though_it_saves_nothing(
    tmp_path: Path,
) -> None:
    saved(tmp_path)
    (newest,) = tmp_path.glob("version-*")
    number = int(newest.name.removeprefix("version-"))
    for version in (number, number + 1):
        (tmp_path / f".{socket.gethostname()}-{2**22 + 1}-0.version-{version}.partial").mkdir()
    with held_folder(tmp_path, every=None, resume=True):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", newest.name]


def test_what_only_has_the_name_of_a_version_is_left_alone(tmp_path: Path) -> None:
    names = ["version-final", "version-²", "version-07", "version-" + "9" * 30]
    for name in names:
        (tmp_path / name).mkdir()
    for step in (20, 60):
        saved(tmp_path, step)
    assert load_checkpoint(tmp_path, IDENTITY)["step"] == 60
    assert {path.name for path in tmp_path.iterdir()} == {*names, "version-2"}


def test_a_checkpoint_of_another_identity_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ValueError, match="belongs to another run: optimizer was SGD there and is Adam here"):
        load_checkpoint(tmp_path, {"optimizer": "Adam"})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, Path.unlink])
def test_a_damaged_checkpoint_is_called_damaged(tmp_path: Path, name: str, damage: Any) -> None:
    saved(tmp_path)
    damage(next(tmp_path.glob("version-*")) / name)
    with pytest.raises(ValueError, match="is damaged"):
        load_checkpoint(tmp_path, IDENTITY)


def rewritten(folder: Path, run: object, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """Replace what a checkpoint holds by something else, with right digests."""
    saved(folder)
    (version,) = folder.glob("version-*")
    record = json.loads((version / "state.json").read_text())
    (version / "state.json").write_text(json.dumps(record | {"run": run}))
    if tensors is not None:
        save_file(tensors, version / "tensors.safetensors")
    write_sums(version)


def nested(kind: str, depth: int = 300) -> object:
    packed: object = None
    for _ in range(depth):
        packed = {kind: [["a", packed]] if kind == "items" else [packed]}
    return packed


PACKED = {"items": [["identity", {"items": []}], ["state", {"items": [["a", {"tensor": "run.state.a"}]]}]]}


@pytest.mark.parametrize(
    ("run", "tensors"),
    [
        (None, {}),
        ([], {}),
        ({"items": []}, {}),
        ({"items": [["identity", {"items": []}], ["state", 3]]}, {}),
        ({"items": [["identity", {"items": []}], ["state", {"unheard of": []}]]}, {}),
        ({"items": [["identity", {"items": []}], ["state", {"items": [[[], 1]]}]]}, {}),
        ({"items": 3, "tuple": 4}, {}),
        ({}, {}),
        (nested("tuple"), {}),
        (nested("items"), {}),
        (PACKED, {}),  # without the tensor
        (PACKED, {"run.state.a": torch.ones(1), "more": torch.ones(1)}),
    ],
)
def test_a_hostile_checkpoint_is_a_sentence(
    tmp_path: Path, run: object, tensors: dict[str, torch.Tensor]
) -> None:
    rewritten(tmp_path, run, tensors)
    with pytest.raises(ValueError, match="is not a checkpoint, or is damaged"):
        load_checkpoint(tmp_path, {})


def test_packing_keeps_types_and_bits() -> None:
    state = {
        0: {"step": 3, "root": torch.tensor(1 / 3, dtype=torch.float64)},
        "betas": (0.9, 0.999),
        "nested": [None, True, {"empty": {}}, [torch.arange(4).reshape(2, 2).T]],
        "inf": float("inf"),
    }
    tensors: dict[str, torch.Tensor] = {}
    again = unpack(pack(state, "state", tensors), tensors)
    assert torch.equal(again[0].pop("root"), state[0].pop("root"))  # type: ignore[attr-defined, union-attr]
    assert torch.equal(again["nested"].pop()[0], state["nested"].pop()[0])  # type: ignore[attr-defined, union-attr]
    assert again == state
    assert isinstance(again["betas"], tuple)


def test_what_cannot_be_packed_is_named() -> None:
    with pytest.raises(TypeError, match=r"optimizer\.state holds a set"):
        pack({"state": {1, 2}}, "optimizer", {})
