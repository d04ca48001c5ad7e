"""Bad input ends in one sentence on standard error and exit code 2, with nothing half-written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]
QUICK = ("--hidden", "4", "--steps", "5", "--quiet")

BAD_RATINGS: dict[str, tuple[str, bytes]] = {
    "truncated": ("a.csv", b"user,item,rating\n1,2,3\n4,5"),
    "wrong columns": ("a.csv", b"viewer,film,stars\na,b,3\n"),
    "not a number": ("a.csv", b"1,2,3\n4,5,good\n"),
    "empty": ("a.csv", b""),
    "binary": ("a.csv", bytes(range(256))),
    "NaN": ("a.csv", b"1,2,3\n4,5,nan\n"),
    "duplicate pair": ("a.csv", b"1,2,3\n1,2,4\n"),
    "one column": ("a.csv", b"1\n2\n"),
    "missing cell": ("a.csv", b"1,2,3\n4,,3\n"),
    "damaged Parquet": ("a.parquet", b"PAR1 and nothing"),
    "damaged Matrix Market": ("a.mtx", b"%%MatrixMarket matrix coordinate real general\n2 2 9\n1 1 1\n"),
    "damaged npz": ("a.npz", b"PK\x03\x04 and nothing"),
}


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("case", BAD_RATINGS)
@pytest.mark.parametrize("as_test", [False, True], ids=["ratings", "test"])
def test_a_bad_file_is_refused_and_nothing_is_written(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, case: str, as_test: bool
) -> None:
    name, content = BAD_RATINGS[case]
    bad = tmp_path / name
    bad.write_bytes(content)
    files = [ratings_file, "--test", bad] if as_test else [bad]

    result = dmf_fast("complete", *files, "--strict", "--out", tmp_path / "out", *QUICK)

    assert_refused(result, str(bad))

    assert list(tmp_path.iterdir()) == [bad]


def test_a_missing_file_and_a_directory_are_refused(dmf_fast: Run, tmp_path: Path) -> None:
    assert_refused(dmf_fast("complete", tmp_path / "nowhere.csv"), "does not exist")
    assert_refused(dmf_fast("complete", tmp_path), "directory")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--depth", "two"], "--depth"),
        (["--depth", "0"], "--depth"),
        (["--depth", "2,2"], "--depth"),
        (["--optimizer", "magic"], "group-rmsprop"),
        (["--initialization", "zeros"], "balanced"),
        (["--duplicates", "drop"], "--duplicates"),
        (["--dtype", "int8"], "float32"),
        (["--lr", "0"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--init-scale", "inf"], "--init-scale"),
        (["--weight-decay", "-1"], "--weight-decay"),
        (["--columns", "user,item"], "3 are needed"),
        (["--separator", "ab"], "separator"),
        (["--resume"], "--out"),
        (["--overwrite"], "--out"),
        (["--out", "{file}"], "is a file"),
        (["--out", "{file}/below"], "file"),
    ],
)
def test_a_bad_option_is_refused(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, options: list[str], word: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    filled = [option.format(file=file) for option in options]

    assert_refused(dmf_fast("complete", ratings_file, *QUICK, *filled), word)

    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "options", [["--steps", "-1"], ["--steps", "many"], ["--nonsense"], ["--hidden", "-1"]]
)
def test_an_option_that_does_not_parse_has_exit_code_2(dmf_fast: Run, options: list[str]) -> None:
    result = dmf_fast("complete", *options)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert options[0] in result.stderr


def test_a_test_file_without_ratings_is_refused(dmf_fast: Run, ratings_file: Path) -> None:
    assert_refused(dmf_fast("complete", "--test", ratings_file), "RATINGS")


def test_a_run_that_diverges_leaves_nothing(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    options = ("--optimizer", "sgd", "--lr", "1e30", "--steps", "50", "--quiet")

    result = dmf_fast("complete", ratings_file, *options, "--out", tmp_path / "out")

    assert_refused(result, "--lr")
    assert list(tmp_path.iterdir()) == []


def test_the_trained_folder_must_be_whole(dmf_fast: Run, trained: Path, tmp_path: Path) -> None:
    def commands(folder: Path) -> list[Result]:
        pairs = tmp_path / "pairs.csv"
        pairs.write_text("100,film 1\n")
        return [dmf_fast("predict", folder, pairs), dmf_fast("recommend", folder, "100")]

    for result in [*commands(tmp_path / "nowhere"), *commands(tmp_path)]:
        assert_refused(result, "dmf-fast complete")
    for name in ("trained.json", "row_ids.parquet", "column_ids.parquet", "model-depth-2.safetensors"):
        damaged = tmp_path / f"without {name}"
        shutil.copytree(trained, damaged)
        (damaged / name).write_bytes(b"damaged")
        for result in commands(damaged):
            assert_refused(result, str(damaged))


@pytest.mark.parametrize("content", [b"", b"one\n", b"user,item\n"])
def test_bad_pairs_are_refused(dmf_fast: Run, trained: Path, tmp_path: Path, content: bytes) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_bytes(content)

    assert_refused(dmf_fast("predict", trained, pairs, "--out", tmp_path / "out.csv"), str(pairs))
    assert list(tmp_path.iterdir()) == [pairs]


@pytest.mark.parametrize(
    "words",
    [
        ["complete", "RATINGS", "--out", "BAD"],
        ["complete", "RATINGS", "--cache", "BAD"],
        ["complete", "RATINGS", "--tensorboard", "BAD"],
        ["prepare", "RATINGS", "--out", "BAD"],
        ["predict", "MODEL", "RATINGS", "--out", "BAD.csv"],
        ["recommend", "MODEL", "--all", "--out", "BAD.parquet"],
        ["export", "MODEL", "BAD.safetensors"],
        ["reproduce", "entries", "--quick", "--out", "BAD"],
    ],
)
def test_a_name_that_is_not_utf8_is_refused_before_any_work(
    dmf_fast: Run, ratings_file: Path, trained: Path, tmp_path: Path, words: list[str]
) -> None:
    paths = {"RATINGS": str(ratings_file), "MODEL": str(trained)}
    bad = str(tmp_path / os.fsdecode(b"o\xff"))

    result = dmf_fast(*(paths.get(word, word).replace("BAD", bad) for word in words))

    assert_refused(result, "must be a path in UTF-8, got", "o\\udcff")
    assert list(tmp_path.iterdir()) == []
