"""Tensors in a file: what comes back is what was written, or a sentence."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from dmf_fast.files.reading import reading
from dmf_fast.files.tensors import (
    _KINDS,
    Chunks,
    load_tensors,
    save_chunks,
    save_tensors,
    write_tensors,
)
from tests.assertions import assert_equal

TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.tensor([1, 2], dtype=torch.int32),
    "none": torch.zeros(0, 4, dtype=torch.bfloat16),
    "one": torch.tensor(1.5, dtype=torch.float64),
}


def save(path: Path) -> None:
    save_tensors(TENSORS, path, "numbers", '{"n": 1}')


def test_no_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    save(tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    for place in range(len(whole)):
        other = 9 if whole[place] == 32 else whole[place] ^ 4  # a tab is a blank to JSON
        (tmp_path / "file").write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="file is not numbers, or is damaged"):
            load(tmp_path / "file")


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "file")
    others = {"a": torch.ones(2, 3), "b": torch.tensor([3, 4], dtype=torch.int32)}
    mapped, opened = torch.UntypedStorage.from_file, []

    def replaced_before_it_is_mapped(*arguments: object, **keywords: object) -> object:
        opened.append(arguments)
        if len(opened) == 1:  # safetensors has read the names already
            save_tensors(others, tmp_path / "file", "numbers")
        return mapped(*arguments, **keywords)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", replaced_before_it_is_mapped)

    loaded, _ = load(tmp_path / "file")

    assert_equal([loaded[name] for name in others], list(others.values()))


def load(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    with reading(path, "numbers", "write it again"):
        return load_tensors(path, "numbers")


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors | {"a": tensors["a"].view(3, 2)},
        lambda tensors: tensors | {"b": tensors["b"].view(torch.float32)},
        lambda tensors: {name: tensor for name, tensor in tensors.items() if name != "none"},
        lambda tensors: tensors | {"more": torch.zeros(0)},
    ],
)
def test_the_digest_knows_names_types_and_shapes(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    save(tmp_path / "file")
    with safe_open(tmp_path / "file", framework="pt") as file:
        metadata = file.metadata()
    save_file(change(TENSORS), tmp_path / "file", metadata)
    with pytest.raises(ValueError, match="SHA-256"):
        load(tmp_path / "file")


def test_a_file_is_what_the_library_writes_from_whole_tensors_and_from_parts(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    numbers = [0, 1, 7, 100, 55, 3]
    tensors = TENSORS | {str(kind): torch.tensor(numbers).to(kind).view(3, 2) for kind in _KINDS}
    save_tensors(tensors, tmp_path / "file", "numbers", '{"n": "\u00e9"}')
    with safe_open(tmp_path / "file", framework="pt") as file:
        save_file(tensors, tmp_path / "theirs", file.metadata())
    parts = {
        name: Chunks(one.dtype, tuple(one.shape), torch.split(one, 1) if one.dim() else (one,))
        for name, one in tensors.items()
    }
    save_chunks(parts, tmp_path / "parts", "numbers", '{"n": "\u00e9"}')

    assert (tmp_path / "file").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("part", [torch.ones(3), torch.ones(2, dtype=torch.float64)])
def test_parts_that_are_not_the_tensor_leave_no_file(tmp_path: Path, part: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^parts of 'a' must"):
        save_chunks({"a": Chunks(torch.float32, (2,), [part])}, tmp_path / "file", "numbers")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_os_error_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError(
            'Error while serializing: I/O error: No space left on device (os error 28) at path "x"'
        )

    monkeypatch.setattr("dmf_fast.files.tensors.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_tensors(TENSORS, tmp_path / "file")
    assert raised.value.errno == errno.ENOSPC


def test_a_disk_that_fills_up_leaves_the_file_before(tmp_path: Path) -> None:
    save(tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, most))
    try:
        with pytest.raises(OSError, match="File too large"):
            save(tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert (tmp_path / "file").read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
