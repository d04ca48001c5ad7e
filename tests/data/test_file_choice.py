"""Which files a path stands for."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from dmf_fast.data import DataError, read_ratings
from dmf_fast.data.file_choice import ratings_files
from tests.data.written_ratings import column_ids, row_ids


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{len(name)},1,3\n")
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b.csv", "a.tsv.gz", ".hidden.csv", "_SUCCESS", "notes.md", "README.txt"], ["a.tsv.gz", "b.csv"]),
        (["ml/ratings.csv", "ml/movies.csv", "ml/tags.csv"], ["ml/ratings.csv"]),
        (["u.data", "u1.base", "u.item"], ["u.data"]),
        (["part-00001", "part-00000", "_SUCCESS"], ["part-00000", "part-00001"]),
        (["day=2/x.csv", "day=1/x.csv", "_temporary/y.csv"], ["day=1/x.csv", "day=2/x.csv"]),
    ],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "archive"])
def test_the_ratings_among_other_files_are_found(
    tmp_path: Path, names: list[str], expected: list[str], zipped: bool
) -> None:
    folder = fill(tmp_path / "data", *names)
    if zipped:
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for name in names:
                archive.write(folder / name, name)
        found = [file.member for file in ratings_files(tmp_path / "data.zip")]
    else:
        found = [file.path.relative_to(folder).as_posix() for file in ratings_files(folder)]

    assert found == expected


def test_several_paths_of_several_kinds_are_read_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item,user,rating\n1,10,1\n")
    (tmp_path / "b.dat").write_text("x::2::3\n11::3::3\n")

    ratings = read_ratings([tmp_path / "a.csv", tmp_path / "b.dat"])

    assert row_ids(ratings) == ["10", "x", "11"]
    assert column_ids(ratings) == [1, 2, 3]
    assert ratings.place(2) == f"{tmp_path / 'b.dat'}, line 2"


def test_a_folder_or_archive_without_ratings_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("notes.md", "nothing")

    with pytest.raises(DataError, match="archive without ratings"):
        read_ratings(tmp_path / "empty.zip")
    (tmp_path / "broken.zip").write_bytes(b"PK and nothing")
    with pytest.raises(DataError, match=r"not a \.zip archive"):
        read_ratings(tmp_path / "broken.zip")
    with pytest.raises(DataError, match="at least one"):
        read_ratings([])
