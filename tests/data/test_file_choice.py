"""Which files a path stands for."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from dmf_fast.data import DataError, ReadOptions, read_ratings
from dmf_fast.data.file_choice import ratings_files
from tests.data.written_ratings import column_ids, parquet, row_ids


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
        (["ratings.csv", "ratings.csv.bak", "ratings.csv~", "ratings.json", "ratings.db"], ["ratings.csv"]),
        (["ratings.csv.bak", "x.csv", "part-00000.crc", "part-00000.bak"], ["x.csv"]),
        (["Ratings.CSV.GZ", "other.csv"], ["Ratings.CSV.GZ"]),
        (["part-00000.gz", "part-00001", "x.csv"], ["part-00000.gz", "part-00001"]),
        (["mv_1.txt", "mv_1.txt.old", "mv_2.txt"], ["mv_1.txt", "mv_2.txt"]),
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


NO_ROWS = pa.table({name: pa.array([], pa.int64()) for name in ("user", "item", "rating")})
EMPTY = {
    "part-0.csv": b"",
    "part-1.csv": b"user,item,rating\n",
    "part-2.parquet": parquet(NO_ROWS),
    "part-3.csv": b"\n\n",
}


def test_parts_without_entries_are_left_out(tmp_path: Path) -> None:
    for name, content in EMPTY.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"part-0\.csv holds no entries, and neither do the other 3"):
        read_ratings(tmp_path)
    for name in EMPTY:
        with pytest.raises(DataError, match=f"{name} (is empty|holds no entries)"):
            read_ratings(tmp_path / name)

    (tmp_path / "part-4.csv").write_text("user,item,rating\n7,8,9\n")
    assert row_ids(read_ratings(tmp_path)) == [7]


def test_columns_that_only_folders_name_are_columns_of_parquet(tmp_path: Path) -> None:
    for user in ("1", "7"):
        folder = tmp_path / f"user={user}" / "date=2005-09-06"
        folder.mkdir(parents=True)
        table = pa.table({"item": [f"i{user}", "b"], "rating": [1.0, 2.0]})
        (folder / "part-0.parquet").write_bytes(parquet(table))

    ratings = read_ratings(tmp_path, ReadOptions(times=True))

    assert row_ids(ratings) == [1, 1, 7, 7]
    assert column_ids(ratings) == ["i1", "b", "i7", "b"]
    assert ratings.times is not None
    assert set(ratings.times.tolist()) == {1125964800}


def test_names_of_folders_are_text_where_they_are_no_numbers(tmp_path: Path) -> None:
    for user in ("1", "a%3Db"):
        (tmp_path / f"user={user}").mkdir()
        table = pa.table({"item": [1], "rating": [1.0]})
        (tmp_path / f"user={user}" / "x.parquet").write_bytes(parquet(table))

    assert row_ids(read_ratings(tmp_path)) == ["1", "a=b"]


def test_text_takes_no_columns_from_folders_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "user=1").mkdir()
    (tmp_path / "user=1" / "x.csv").write_text("item,rating\n1,2\n")

    with pytest.raises(DataError, match=r"'user=1', are supported for Parquet only"):
        read_ratings(tmp_path)


def test_long_ids_of_parquet_are_never_written_out_for_every_row(tmp_path: Path) -> None:
    # 40 MB of text, were each row to hold its own.
    users = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), pa.array(["x" * 100_000, "y"]))
    table = pa.table({"user": users, "item": list(range(400)), "rating": [1.0] * 400})
    (tmp_path / "a.parquet").write_bytes(parquet(table))
    before = pa.default_memory_pool().max_memory()

    ratings = read_ratings(tmp_path / "a.parquet")

    assert ratings.row_ids.ids.to_pylist() == ["x" * 100_000]
    assert pa.default_memory_pool().max_memory() - before < 10_000_000
