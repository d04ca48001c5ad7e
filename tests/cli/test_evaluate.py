"""``dmf-fast evaluate``: the numbers of ``complete``, without the ratings; and errors in sentences."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dmf_fast.data import read_ratings
from dmf_fast.evaluation import Biases
from tests.cli.runs import QUICK, Run, json_of


@pytest.fixture(scope="module")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(1)
    pairs = random.choice(32 * 22, 120, replace=False)
    lines = [f"{100 + pair // 22},film {pair % 22},{random.integers(1, 6)}" for pair in pairs]
    path = tmp_path_factory.mktemp("test") / "test.csv"
    path.write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    return path


def test_a_trained_folder_gives_the_numbers_of_its_training(
    dmf_fast: Run, ratings_file: Path, test_file: Path, tmp_path: Path
) -> None:
    out, ranked = tmp_path / "out", ("--top-k", "3", "--relevant-from", "4")
    command = ("complete", ratings_file, "--test", test_file, "--out", out, "--json", *ranked, *QUICK)
    (run,) = json_of(dmf_fast(*command))["runs"]

    found = json_of(dmf_fast("evaluate", out, test_file, "--json", *ranked))

    assert found == run["evaluation"]
    assert found["ranking"]["model"]["cutoff"] == 3
    assert found["model"]["by_group"]["new row"]["count"] > 0


def test_the_biases_listed_with_the_model_are_those_of_its_ratings(
    dmf_fast: Run, trained: Path, ratings_file: Path, test_file: Path
) -> None:
    kept = json_of(dmf_fast("evaluate", trained, test_file, "--json"))
    ratings = read_ratings(ratings_file)
    test = read_ratings(test_file).mapped_to(ratings.row_ids, ratings.column_ids)

    biases = Biases.fit(ratings.observations())
    fitted = json_of(dmf_fast("evaluate", trained, test_file, "--ratings", ratings_file, "--json"))

    predicted = np.clip(biases.predict(test.rows, test.columns), ratings.values.min(), ratings.values.max())
    rmse = float(np.sqrt(np.mean((predicted - test.values) ** 2)))
    assert fitted["baselines"]["biases"]["rmse"] == pytest.approx(rmse, rel=1e-6)
    assert fitted["model"] == kept["model"]
    assert fitted["baselines"]["mean"]["rmse"] == pytest.approx(kept["baselines"]["mean"]["rmse"])


def test_a_person_sees_tables(dmf_fast: Run, trained: Path, test_file: Path) -> None:
    result = dmf_fast("evaluate", trained, test_file, "--top-k", "3")

    assert result.exit_code == 0, result.stderr
    for word in ("this model", "mean", "biases", "new user", "most popular", "NDCG"):
        assert word in result.stdout


def test_a_folder_without_biases_asks_for_the_ratings(
    dmf_fast: Run, trained: Path, test_file: Path, ratings_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "biases.safetensors").unlink()

    refused = dmf_fast("evaluate", copy, test_file)

    assert refused.exit_code == 2
    assert "--ratings FILE" in refused.stderr
    assert dmf_fast("evaluate", copy, test_file, "--ratings", ratings_file).exit_code == 0


def test_bad_options_end_in_one_sentence(dmf_fast: Run, trained: Path, test_file: Path) -> None:
    refused = dmf_fast("evaluate", trained, test_file, "--relevant-from", "3")

    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: --relevant-from needs --top-k")
