"""Files and folders that are there whole or not at all, whatever becomes of their writers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dmf_fast.files import atomic
from dmf_fast.files.atomic import atomic_file, atomic_folder
from tests.killing import assert_runs

Writer = Callable[[Path], AbstractContextManager[Path]]


def fill(partial: Path, text: str) -> None:
    (partial / "content" if partial.is_dir() else partial).write_text(text)


def content(path: Path) -> str:
    return (path / "content" if path.is_dir() else path).read_text()


def _fail(writer: Writer, place: Path) -> None:
    with writer(place) as partial:
        fill(partial, "new")
        raise LookupError


@pytest.fixture(params=[atomic_file, atomic_folder])
def writer(request: pytest.FixtureRequest) -> Writer:
    chosen: Writer = request.param
    return chosen


def test_the_new_one_replaces_the_old_one_and_nothing_else_is_left(tmp_path: Path, writer: Writer) -> None:
    place = tmp_path / "below" / "place"
    for text in ("old", "new"):
        with writer(place) as partial:
            fill(partial, text)
            assert not place.exists() or content(place) == "old"
        assert content(place) == text
    assert [path.name for path in place.parent.iterdir()] == ["place"]


def test_a_block_that_fails_leaves_the_old_one(tmp_path: Path, writer: Writer) -> None:
    place = tmp_path / "place"
    with writer(place) as partial:
        fill(partial, "old")
    with pytest.raises(LookupError):
        _fail(writer, place)
    assert content(place) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_what_a_link_points_to_is_replaced(tmp_path: Path, writer: Writer) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with writer(tmp_path / "link") as partial:
        fill(partial, "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "elsewhere") == "new"


def test_two_writers_of_one_place_do_not_meet(tmp_path: Path, writer: Writer) -> None:
    with writer(tmp_path / "place") as one, writer(tmp_path / "place") as other:
        fill(one, "one")
        fill(other, "other")
    assert content(tmp_path / "place") == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_everything_is_flushed_before_it_is_renamed(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    monkeypatch.setattr(atomic, "flush", lambda path: flushed.append((path, (tmp_path / "place").exists())))
    with writer(tmp_path / "place") as partial:
        fill(partial, "new")
        written = {partial, *partial.glob("*")}
    assert {path for path, there in flushed if not there} == written
    assert flushed[-1] == (tmp_path, True)


KILLED = """
import os, signal
from pathlib import Path
from dmf_fast.files.atomic import {writer} as writer
if os.fork() == 0:
    with writer(Path({place!r})):
        os.kill(os.getpid(), signal.SIGKILL)
os.wait()
"""


def test_what_a_killed_writer_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    place, other = tmp_path / "place", tmp_path / "a.place"
    assert_runs(KILLED.format(writer="atomic_folder", place=str(place)))
    assert_runs(KILLED.format(writer="atomic_folder", place=str(other)))
    strays = [path.name for path in tmp_path.iterdir()]
    assert len(strays) == 2

    with atomic_file(place) as partial:
        partial.write_text("")
        left = {path.name for path in tmp_path.iterdir()} & set(strays)

    assert len(left) == 1
    assert left.pop().endswith(".a.place.partial")


def test_a_writer_on_another_machine_is_left_alone_for_a_day(tmp_path: Path) -> None:
    theirs = tmp_path / ".elsewhere-1-0.place.partial"
    theirs.mkdir()
    for age, there in ((0, True), (2 * 86400, False)):
        os.utime(theirs, (theirs.stat().st_atime - age, theirs.stat().st_mtime - age))
        with atomic_file(tmp_path / "place") as partial:
            partial.write_text("")
        assert theirs.exists() == there


def test_a_folder_that_lost_its_place_between_two_renames_gets_it_back(tmp_path: Path) -> None:
    old = tmp_path / f".{socket.gethostname()}-{2**22 + 1}-0.place.replaced"  # above the largest process id
    old.mkdir()
    fill(old, "old")
    with pytest.raises(LookupError):
        _fail(atomic_folder, tmp_path / "place")
    assert content(tmp_path / "place") == "old"
