"""Bytes of pipes, archives and compressed files, which are read once and never expand without bound."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import os
import socket
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse

from dmf_fast.data import DataError, open_ratings, read_ratings, sources
from tests.data.written_ratings import ROWS, TEXTS, parquet, row_ids

ENTRIES = 50_000
MANY = "".join(f"{k},{k % 7},3\n" for k in range(ENTRIES)).encode()


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which copies are made."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """Give named pipes into which something is written once they are read."""
    writers = []

    def make(content: bytes) -> Path:
        path = tmp_path / f"pipe{len(writers)}"
        os.mkfifo(path)
        writers.append(threading.Thread(target=path.write_bytes, args=(content,)))
        writers[-1].start()
        return path

    yield make
    for writer in writers:
        writer.join()


def sparse_npz(compress: bool = True) -> bytes:
    file = io.BytesIO()
    scipy.sparse.save_npz(file, scipy.sparse.coo_array(([3.0], ([196], [1]))), compressed=compress)
    return file.getvalue()


def zipped(name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, content)
    return file.getvalue()


CSV = TEXTS["ratings.csv"].encode()
CONTENTS = {
    "text": CSV,
    "gzip": gzip.compress(CSV),
    "bz2": bz2.compress(CSV),
    "xz": lzma.compress(CSV),
    "Parquet": parquet(pa.table({"user": [196], "item": [1], "rating": [1.0]})),
    "npz": sparse_npz(),
    "zip": zipped("ratings.csv", CSV),
    "Matrix Market": b"%%MatrixMarket matrix coordinate real general\n200 1 1\n196 1 2\n",
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_pipe_is_read_whole_whatever_it_holds(
    pipe: Callable[[bytes], Path], copies: Path, content: str
) -> None:
    ratings = read_ratings(pipe(CONTENTS[content]))

    assert row_ids(ratings)[0] == 196
    del ratings
    assert not list(copies.iterdir())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_pipe_of_many_lines_loses_none_and_knows_their_places(
    pipe: Callable[[bytes], Path], copies: Path, encoding: str
) -> None:
    path = pipe(MANY.decode().encode(encoding))
    ratings = read_ratings(path)

    assert ratings.row_ids.ids.to_pylist() == list(range(ENTRIES))
    assert ratings.place(ENTRIES - 1) == f"{path}, line {ENTRIES}"


def test_standard_input_is_named_by_a_hyphen(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CSV)))
    ratings = read_ratings("-")

    assert row_ids(ratings) == ROWS
    assert ratings.place(0) == "standard input, line 2"


def test_closed_standard_input_and_endless_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/zero") as zeros:
        for stream in (None, zeros):
            monkeypatch.setattr(sys, "stdin", stream)
            with pytest.raises(DataError, match=r"standard input is (closed|a device)"):
                read_ratings("-")


def test_devices_and_sockets_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # as names of sockets may have no more than 100 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for path in ("/dev/zero", "socket"):
            with pytest.raises(DataError, match=f"{path} is a device or a socket"):
                read_ratings(path)


def test_an_endless_pipe_without_ratings_is_not_copied_to_its_end(copies: Path) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            return len(buffer)

    copy = sources._copied(Endless(), "pipe")  # type: ignore[arg-type]

    assert copy.path.stat().st_size == 1 << 20


def test_a_full_folder_for_copies_is_named(
    pipe: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch, copies: Path
) -> None:
    monkeypatch.setattr(sources, "_TemporaryCopy", lambda: type("Copy", (), {"path": Path("/dev/full")})())
    with pytest.raises(OSError, match=r"/dev has no space for .*set TMPDIR"):
        read_ratings(pipe(CSV))


def test_a_pipe_in_a_folder_is_no_file_of_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ratings.csv")
    (tmp_path / "b.csv").write_text("7,1,3\n")

    assert row_ids(read_ratings(tmp_path)) == [7]


def test_a_pipe_cannot_be_cached(pipe: Callable[[bytes], Path], copies: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can be read only once, so it cannot be cached"):
        open_ratings(pipe(CSV), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "none"])
@pytest.mark.parametrize("name", ["ratings.csv", "ratings.parquet", "ratings.npz"])
def test_every_kind_may_be_compressed_and_lie_in_an_archive(tmp_path: Path, ending: str, name: str) -> None:
    content = {"csv": CSV, "parquet": CONTENTS["Parquet"], "npz": sparse_npz()}[name.rpartition(".")[2]]
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    if ending == "zst":
        content = pa.compress(content, codec="zstd", asbytes=True)
    elif ending in pack:
        content = pack[ending](content)
    (tmp_path / f"{name}.{ending}").write_bytes(content)
    (tmp_path / "all.zip").write_bytes(zipped(f"{name}.{ending}", content))

    assert row_ids(read_ratings(tmp_path / f"{name}.{ending}"))[0] == 196
    if ending != "none":
        assert row_ids(read_ratings(tmp_path / "all.zip"))[0] == 196


def test_a_compressed_file_needs_no_ending_but_an_ending_must_be_true(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress(CSV))
    (tmp_path / "b.CSV.XZ").write_bytes(CSV)

    assert row_ids(read_ratings(tmp_path / "a.csv")) == ROWS
    with pytest.raises(DataError, match=r"not those of a \.xz file"):
        read_ratings(tmp_path / "b.CSV.XZ")


@functools.cache
def bombs() -> dict[str, bytes]:
    """Return small files that expand to much more."""
    lines = b"1,1,5\n" * 20_000
    wide = np.zeros(20_000)
    file = io.BytesIO()
    np.savez_compressed(file, format="coo", shape=[9, 9], data=wide, row=wide, col=wide)
    table = pa.table({name: pa.array(np.zeros(20_000, int)) for name in ("user", "item", "rating")})
    return {
        "a.csv.gz": gzip.compress(lines),
        "a.csv.bz2": bz2.compress(lines),
        "a.csv.xz": lzma.compress(lines),
        "a.csv.zst": pa.compress(lines, codec="zstd", asbytes=True),
        "a.zip": zipped("a.csv", lines),
        "b.zip": zipped("a.csv.bz2", bz2.compress(lines)),
        "a.npz": file.getvalue(),
        "a.parquet": parquet(table),
        "a.mtx.gz": gzip.compress(b"%%MatrixMarket matrix array real general\n60000 1\n" + b"1\n" * 60_000),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_what_expands_without_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sources, "_FREE_BYTES", 1 << 14)
    monkeypatch.setattr(sources, "_MOST_EXPANSION", 20)
    (tmp_path / name).write_bytes(bombs()[name])

    with pytest.raises(DataError, match=r"expands from .* bytes, which is implausible for ratings"):
        read_ratings(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped("a.csv", CSV, zipfile.ZIP_LZMA), "a.csv is not compressed with deflate"),
        (zipped("a.csv", CSV).replace(b"\x02\x14\x03\x14\0\0", b"\x02\x14\x03\x14\0\1"), "password required"),
        (zipped("a.csv", CSV)[:-30], r"is not a \.zip archive"),
        (zipped("a.csv", CSV)[: len(CSV) // 2], r"is not a \.zip archive"),
        (b"PK and nothing", r"is not a \.zip archive"),
    ],
    ids=["another method", "encrypted", "cut", "half", "text"],
)
def test_damaged_archives_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "all.zip").write_bytes(content)

    with pytest.raises(DataError, match=words) as caught:
        read_ratings(tmp_path / "all.zip")
    assert str(tmp_path / "all.zip") in str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_the_long_name_of_a_member_stays_short_in_errors(tmp_path: Path, method: int) -> None:
    for path, member in ((tmp_path / "all.zip", "a" * 5000 + ".csv"), (tmp_path / "a.npz", "a" * 5000)):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr(member, "1,2,three\n4,5,six\n")
        with pytest.raises(DataError) as caught:
            read_ratings(path)
        assert len(str(caught.value)) < 1000


def test_members_of_one_name_or_that_overlap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", CSV)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.csv", CSV)
    with pytest.raises(DataError, match="two members of one name"):
        read_ratings(path)

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", CSV)
        for k in range(5):
            info = zipfile.ZipInfo(f"b{k}.csv")
            info.compress_size = info.file_size = len(CSV)
            info.CRC, info.header_offset = archive.getinfo("a.csv").CRC, 0
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
    with pytest.raises(DataError, match="its members overlap"):
        read_ratings(path)


def test_the_directory_of_an_archive_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for k in range(300):
            archive.writestr(f"mv_{k:07}.txt", f"{k}:\n1,3,2005-09-06\n")
    opened = []

    class Counted(zipfile.ZipFile):
        def __init__(self, *arguments: object) -> None:
            opened.append(arguments)
            super().__init__(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sources.zipfile, "ZipFile", Counted)

    assert read_ratings(tmp_path / "all.zip").shape == (1, 300)
    assert len(opened) == 1
