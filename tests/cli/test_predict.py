"""``dmf-fast predict``: what the written factors say, in the order of the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from safetensors.numpy import load_file

from dmf_fast.data import IdMap, read_ratings
from tests.cli.runs import Run

PAIRS = [(105, "film 3"), (100, "film 19"), (129, "film 0"), (105, "film 4")]


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("user,item\n" + "".join(f"{user},{film}\n" for user, film in PAIRS))
    return path


def dense_predictions(folder: Path, ratings: Path) -> np.ndarray:
    """Return every prediction, unclipped parts clipped to the range of the ratings, shape (30, 20)."""
    tensors = load_file(folder / "model-depth-2.safetensors")
    dense = tensors["factors.1"].astype(float) @ tensors["factors.0"]
    dense += tensors["row_bias"][:, None] + tensors["column_bias"] + tensors["mean"]
    values = read_ratings(ratings).values
    return np.clip(dense, values.min(), values.max())


def expected_at_pairs(folder: Path, ratings: Path) -> np.ndarray:
    films = IdMap.load(folder / "column_ids.parquet").ids.to_pylist()
    dense = dense_predictions(folder, ratings)
    return np.array([dense[user - 100, films.index(film)] for user, film in PAIRS])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predictions_are_those_of_the_written_factors(
    dmf_fast: Run, trained: Path, ratings_file: Path, pairs_file: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"predictions{suffix}"

    assert dmf_fast("predict", trained, pairs_file, "--out", out).exit_code == 0

    table = csv.read_csv(out) if suffix == ".csv" else pq.read_table(out)
    assert list(zip(table["user"].to_pylist(), table["item"].to_pylist(), strict=True)) == PAIRS
    expected = expected_at_pairs(trained, ratings_file)
    np.testing.assert_allclose(table["prediction"].to_numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_written_is_read_back_without_choosing_columns(
    dmf_fast: Run, trained: Path, pairs_file: Path, tmp_path: Path, suffix: str
) -> None:
    predicted, again, best, of_best = (
        tmp_path / f"{name}{suffix}" for name in ("predicted", "again", "best", "of_best")
    )
    recommend = ("recommend", trained, "--all", "--count", 2, "--out", best)

    for command in (
        ("predict", trained, pairs_file, "--out", predicted), ("predict", trained, predicted, "--out", again),
        recommend, ("predict", trained, best, "--out", of_best),
    ):  # fmt: skip
        result = dmf_fast(*command)
        assert result.exit_code == 0, result.stderr

    read = csv.read_csv if suffix == ".csv" else pq.read_table
    assert read(again).equals(read(predicted))
    columns = ["user", "item", "known"]
    assert read(of_best).select(columns).equals(read(best).select(columns))
    np.testing.assert_allclose(read(of_best)["prediction"], read(best)["prediction"], rtol=1e-6)


def test_without_out_csv_goes_to_a_pipe(trained: Path, pairs_file: Path) -> None:
    command = [sys.executable, "-m", "dmf_fast.cli", "predict", str(trained), str(pairs_file)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=600)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == '"user","item","prediction","known"'
    assert len(lines) == 1 + len(PAIRS)


def test_unknown_ids_get_the_mean_and_the_known_bias(
    dmf_fast: Run, trained: Path, ratings_file: Path, tmp_path: Path
) -> None:
    pairs, out = tmp_path / "pairs.csv", tmp_path / "predictions.parquet"
    pairs.write_text("user,item\n999,film 4\n105,no film\n999,no film\n")
    tensors = load_file(trained / "model-depth-2.safetensors")
    film = IdMap.load(trained / "column_ids.parquet").ids.to_pylist().index("film 4")
    mean = float(tensors["mean"])
    expected = [mean + tensors["column_bias"][film], mean + tensors["row_bias"][5], mean]
    values = read_ratings(ratings_file).values

    assert dmf_fast("predict", trained, pairs, "--out", out).exit_code == 0

    predictions = pq.read_table(out)["prediction"].to_numpy()
    np.testing.assert_allclose(predictions, np.clip(expected, values.min(), values.max()), rtol=1e-6)


def test_unknown_ids_give_nan_or_an_error_when_asked(dmf_fast: Run, trained: Path, tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs.csv", tmp_path / "predictions.parquet"
    pairs.write_text("user,item\n105,film 4\n999,film 4\n")

    assert dmf_fast("predict", trained, pairs, "--unknown", "nan", "--out", out).exit_code == 0
    assert np.isnan(pq.read_table(out)["prediction"].to_numpy()).tolist() == [False, True]

    refused = dmf_fast("predict", trained, pairs, "--unknown", "raise", "--out", tmp_path / "none.csv")
    assert refused.exit_code == 2
    assert "(999, film 4)" in refused.stderr
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--out", "predictions.txt"], ".csv or .parquet"),
        (["--out", "nowhere/predictions.csv"], "does not exist"),
        (["--unknown", "guess"], "mean, nan, raise"),
        (["--depth", "7"], "depth 7"),
    ],
)
def test_bad_options_end_in_one_sentence(
    dmf_fast: Run, trained: Path, pairs_file: Path, tmp_path: Path, arguments: list[str], word: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)

    refused = dmf_fast("predict", trained, pairs_file, *arguments)

    assert refused.exit_code == 2
    assert word in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]


def test_a_file_is_replaced_only_when_asked(
    dmf_fast: Run, trained: Path, pairs_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    out.write_text("precious")

    assert dmf_fast("predict", trained, pairs_file, "--out", out).exit_code == 2
    assert out.read_text() == "precious"
    assert dmf_fast("predict", trained, pairs_file, "--out", out, "--overwrite").exit_code == 0
    assert out.read_text() != "precious"


def test_the_column_known_flags_fallbacks(dmf_fast: Run, trained: Path, tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs.csv", tmp_path / "predictions.csv"
    pairs.write_text("user,item\n105,film 4\n999,film 4\n105,no film\n")

    assert dmf_fast("predict", trained, pairs, "--out", out).exit_code == 0

    assert csv.read_csv(out)["known"].to_pylist() == [True, False, False]


def test_bad_pairs_are_skipped_and_shown_or_refused(dmf_fast: Run, trained: Path, tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs.csv", tmp_path / "predictions.csv"
    pairs.write_text("user,item\n105,film 4\n,film 4\n106,film 4\n")

    lenient = dmf_fast("predict", trained, pairs, "--out", out)
    strict = dmf_fast("predict", trained, pairs, "--out", out, "--overwrite", "--strict")

    assert lenient.exit_code == 0
    assert "1 bad row was skipped" in lenient.stderr
    assert csv.read_csv(out)["user"].to_pylist() == [105, 106]
    assert strict.exit_code == 2
    assert "line 3" in strict.stderr
