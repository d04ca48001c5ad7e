"""Records: whichever byte is damaged, nothing is read but what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dmf_fast.files.records import load_record, save_record


@pytest.mark.parametrize("record", [{"a": [1, 2.5, None, "ü\n"], "b": {"c": True}}, [], 0.1])
def test_no_flipped_byte_goes_unnoticed(tmp_path: Path, record: Any) -> None:
    path = tmp_path / "record"
    save_record(path, record)
    assert load_record(path, Any) == record
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"SHA-256|utf-8"):
            load_record(path, Any)


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record").write_bytes(content)
    with pytest.raises(ValueError, match=r"SHA-256|utf-8"):
        load_record(tmp_path / "record", dict[str, int])
