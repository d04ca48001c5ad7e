"""Files and folders are complete or absent, whatever happens to their writers."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

import pytest

from dmf_fast.files import atomic
from dmf_fast.files.atomic import atomic_file, atomic_folder, read_whole
from tests.killing import assert_runs
from tests.publishing import all_is_flushed

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


def test_links_in_a_circle_are_refused_in_a_sentence(tmp_path: Path, writer: Writer) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    with pytest.raises(OSError, match="Too many levels of symbolic links"), writer(tmp_path / "one"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_what_is_of_another_kind_is_refused_before_the_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for open_, name in ((atomic_file, "pipe"), (atomic_file, "folder"), (atomic_folder, "file")):
        with pytest.raises(OSError, match=name), open_(tmp_path / name):
            pytest.fail("the block was entered")


@pytest.mark.parametrize("planted", ["link", "file", "folder"])
def test_what_was_planted_under_the_name_of_the_partial_is_not_used(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    names = [tmp_path / f".{socket.gethostname()}-{os.getpid()}-{number}.place.partial" for number in (7, 8)]
    monkeypatch.setattr(atomic, "_numbers", iter((7, 8, 9)))
    monkeypatch.setattr(atomic, "_is_written", lambda *_: True)  # it is not taken for a stray
    for name in names:
        {"link": lambda to: to.symlink_to(victim), "file": Path.touch, "folder": Path.mkdir}[planted](name)
    with writer(tmp_path / "place") as partial:
        fill(partial, "new")
    assert content(tmp_path / "place") == "new"
    assert victim.read_text() == "precious"
    assert all(os.path.lexists(name) for name in names)


def test_what_is_written_has_the_mode_of_the_old_one_or_that_of_the_umask(
    tmp_path: Path, writer: Writer
) -> None:
    before = os.umask(0o027)
    try:
        for mode in (None, 0o700):
            if mode is not None:
                (tmp_path / "place").chmod(mode)
            with writer(tmp_path / "place") as partial:
                fill(partial, "new")
            by_umask = 0o750 if writer is atomic_folder else 0o640
            assert stat.S_IMODE((tmp_path / "place").stat().st_mode) == (mode or by_umask)
    finally:
        os.umask(before)


def test_a_name_of_any_length_may_be_written_to(tmp_path: Path, writer: Writer) -> None:
    place = tmp_path / ("x" * 255)
    with writer(place) as partial:
        fill(partial, "new")
    assert content(place) == "new"


def test_two_writers_of_one_place_do_not_meet(tmp_path: Path, writer: Writer) -> None:
    with writer(tmp_path / "place") as one, writer(tmp_path / "place") as other:
        fill(one, "one")
        fill(other, "other")
    assert content(tmp_path / "place") == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_everything_is_flushed_before_it_is_renamed(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with all_is_flushed(tmp_path, monkeypatch) as renamed:
        for text in ("old", "new"):
            with writer(tmp_path / "place") as partial:
                fill(partial, text)
    assert renamed == ["place", "place"]


def test_new_folders_above_are_flushed_too(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(atomic, "flush", flushed.append)
    with writer(tmp_path / "a" / "b" / "place") as partial:
        fill(partial, "new")
    assert {tmp_path, tmp_path / "a"} <= set(flushed[:2])


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


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot exchange two folders."""
    monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)


@pytest.mark.usefixtures("no_exchange")
def test_a_folder_that_a_killed_writer_was_replacing_is_put_back(tmp_path: Path) -> None:
    stray = tmp_path / f".{socket.gethostname()}-{2**22 + 1}-0.place.partial"  # above the largest process id
    for use in (_fail, read_back):
        (stray / "old").mkdir(parents=True)
        fill(stray / "old", "old")
        with suppress(LookupError):
            use(atomic_folder, tmp_path / "place")
        assert content(tmp_path / "place") == "old"
        shutil.rmtree(tmp_path / "place")
        shutil.rmtree(stray, ignore_errors=True)


def read_back(_: Writer, place: Path) -> None:
    assert read_whole(place, lambda: content(place)) == "old"


@pytest.mark.usefixtures("no_exchange")
@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interruption_while_a_folder_is_replaced_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    replace, calls = os.replace, iter(range(1, 99))

    def interrupted(source: Path, target: Path) -> None:
        if next(calls) == call:
            raise KeyboardInterrupt
        replace(source, target)

    (tmp_path / "place").mkdir()
    fill(tmp_path / "place", "old")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(KeyboardInterrupt))
        fill(stack.enter_context(atomic_folder(tmp_path / "place")), "new")
        monkeypatch.setattr(os, "replace", interrupted)
    assert content(tmp_path / "place") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_writers_that_race_leave_one_of_theirs_and_readers_see_no_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)
    place = tmp_path / "place"

    def write(writer: int) -> None:
        for number in range(10):
            with atomic_folder(place) as new:
                for name in "abc":
                    (new / name).write_text(f"{writer} {number}")

    def texts() -> set[str]:
        return {(place / name).read_text() for name in "abc" if place.exists()}

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, writer) for writer in range(3)]
        while not all(writer.done() for writer in writers):
            with suppress(FileNotFoundError):  # before the first; and between two renames
                assert len(read_whole(place, texts)) <= 1
        assert [writer.result() for writer in writers] == [None] * 3
    assert texts() <= {f"{writer} 9" for writer in range(3)}
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
