"""``dmf-fast complete`` as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from safetensors.numpy import load_file

from dmf_fast.cli.options import CompleteOptions
from dmf_fast.cli.summary import print_results
from dmf_fast.data import IdMap, read_ratings
from dmf_fast.experiments import PaperSetting
from dmf_fast.files.digests import write_sums
from tests.cli.runs import MODEL, QUICK, Run
from tests.killing import assert_runs

COMMAND = [sys.executable, "-m", "dmf_fast.cli"]


def measures(result: Result) -> dict[str, object]:
    """Return the one run of a ``--json`` result without its duration."""
    assert result.exit_code == 0, result.stderr
    (run,) = json.loads(result.stdout)["runs"]
    return {name: value for name, value in run.items() if name != "seconds"}


def test_without_ratings_the_papers_setting_runs(dmf_fast: Run, tmp_path: Path) -> None:
    out = tmp_path / "default"

    result = dmf_fast("complete", "--json", "--out", out, "--steps", "200", "--quiet")

    assert result.exit_code == 0, result.stderr
    assert {path.name for path in out.iterdir()} == {
        "trained.json", "model-depth-2.safetensors", "model-depth-3.safetensors", "row_ids.parquet",
        "column_ids.parquet", "seen.safetensors", "biases.safetensors", "history.parquet", "report.html",
        "metrics.json", "config.yaml", "README.md", "SHA256SUMS",
    }  # fmt: skip
    runs = json.loads(result.stdout)["runs"]
    assert [run["depth"] for run in runs] == [2, 3]
    assert {"optimizer", "steps", "seconds", "train_loss", "test_rmse", "reconstruction_mse"} <= set(runs[0])
    assert json.loads((out / "metrics.json").read_text())["runs"] == runs
    history = pq.read_table(out / "history.parquet")
    assert set(history.column("model").to_pylist()) == {"depth 2", "depth 3"}
    assert set(history.column("depth").to_pylist()) == {2, 3}
    assert not out.with_name("default.partial").exists()


def test_the_papers_setting_is_that_of_the_experiment(dmf_fast: Run) -> None:
    options = CompleteOptions.of({}).values()

    paper = PaperSetting()
    expected = {name: value for name, value in paper.training.values().items() if name != "depth"}
    assert {name: options[name] for name in expected} == expected
    assert options["depth"] == "2,3"


def test_an_ignored_file_and_an_unsaved_model_are_reported(dmf_fast: Run, tmp_path: Path) -> None:
    result = dmf_fast("complete", "--steps", "1")

    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("The paper's setting, as no RATINGS were given: 100 rows, 100 columns, ")
    assert result.stdout.endswith("Not saved: pass `--out FOLDER` to keep the model.\n")
    saved = dmf_fast("complete", "--steps", "1", "--out", tmp_path / "out")
    assert saved.stdout.endswith(f"Written to {tmp_path / 'out'}\n")


@pytest.mark.slow
def test_in_the_papers_setting_depth_3_recovers_the_matrix_and_depth_2_does_not() -> None:
    done = subprocess.run([*COMMAND, "complete", "--json"], capture_output=True, text=True, timeout=600)

    assert done.returncode == 0, done.stderr
    runs = {run["depth"]: run for run in json.loads(done.stdout)["runs"]}
    assert all(run["train_loss"] <= 1e-6 for run in runs.values())
    assert runs[3]["reconstruction_mse"] < 1e-3
    assert runs[2]["reconstruction_mse"] > 1e-2


def test_a_person_sees_a_table(dmf_fast: Run, ratings_file: Path) -> None:
    result = dmf_fast("complete", ratings_file, *QUICK, "--depth", "2,3")

    assert result.exit_code == 0, result.stderr
    assert "seconds" in result.stdout
    assert "30 x 20" in result.stdout


def test_no_number_of_the_table_is_cut_at_80_columns(
    dmf_fast: Run, ratings_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = dmf_fast("complete", ratings_file, "--test", ratings_file, "--top-k", 3, "--json", *QUICK)
    results = json.loads(found.stdout)
    (run,) = results["runs"]
    run |= {"chosen": "depth 3, spectral start", "asked_depth": "auto", "steps": 12_345, "seconds": 1234.5}
    run |= {"train_loss": 1.23e-7}

    print_results(results, as_json=False)

    table = capsys.readouterr().out
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80
    for shown in ("12,345", "1234.5", "1.23e-07", f"{run['test_mae']:.4f}", f"{run['ndcg']:.4f}"):
        assert f" {shown} " in table


def test_the_folder_keeps_the_factors_the_biases_the_mean_and_the_ids(
    trained: Path, ratings_file: Path
) -> None:
    tensors = load_file(trained / "model-depth-2.safetensors")
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    values = read_ratings(ratings_file).values

    assert shapes == {
        "factors.0": (4, 20), "factors.1": (30, 4), "row_bias": (30,), "column_bias": (20,), "mean": ()
    }  # fmt: skip
    assert values.min() < tensors["mean"] < values.max()
    assert IdMap.load(trained / "row_ids.parquet").ids.to_pylist() == list(range(100, 130))
    assert len(IdMap.load(trained / "column_ids.parquet")) == 20


def test_the_validation_part_comes_from_the_train_entries(dmf_fast: Run, ratings_file: Path) -> None:
    result = dmf_fast("complete", ratings_file, "--validation-fraction", "0.2", "--json", *QUICK)

    data = json.loads(result.stdout)["data"]
    assert data["entries"] == 300
    # On so few entries there are four folds, whose validation parts are disjoint.
    assert data["validation_entries"] == 4 * 60


def test_the_test_ratings_choose_nothing(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "with", tmp_path / "without"]
    dmf_fast("complete", ratings_file, "--test", ratings_file, "--out", outs[0], *QUICK)
    dmf_fast("complete", ratings_file, "--out", outs[1], *QUICK)

    models = [(out / "model-depth-2.safetensors").read_bytes() for out in outs]
    assert models[0] == models[1]


def test_the_test_rmse_is_that_of_the_written_predictions(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    test, out = tmp_path / "test.csv", tmp_path / "out"
    test.write_text("user,item,rating\n100,film 3,2\n101,film 4,5\n999,film 4,1\n102,film none,3\n")

    run = measures(dmf_fast("complete", ratings_file, "--test", test, "--out", out, "--json", *QUICK))
    dmf_fast("predict", out, test, "--out", tmp_path / "predictions.parquet")

    predicted = pq.read_table(tmp_path / "predictions.parquet").column("prediction").to_numpy()
    expected = np.sqrt(((predicted - [2, 5, 1, 3]) ** 2).mean())
    assert run["test_rmse"] == pytest.approx(expected, rel=1e-6)


def test_unknown_test_ids_follow_the_choice(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    test.write_text("user,item,rating\n999,film 4,1\n")
    arguments = ("complete", ratings_file, "--test", test, "--json", *QUICK)

    refused = dmf_fast(*arguments, "--unknown", "raise")
    assert refused.exit_code == 2
    assert "(999, film 4)" in refused.stderr
    assert measures(dmf_fast(*arguments, "--unknown", "nan"))["test_rmse"] is None
    assert measures(dmf_fast(*arguments, "--unknown", "mean"))["test_rmse"] is not None


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "group-rmsprop", "adamw"])
def test_every_kind_of_optimizer_trains(dmf_fast: Run, ratings_file: Path, optimizer: str) -> None:
    run = measures(
        dmf_fast("complete", ratings_file, "--optimizer", optimizer, "--lr", "0.01", "--json", *QUICK)
    )

    assert run["optimizer"] == optimizer
    assert float(str(run["train_loss"])) < np.var(read_ratings(ratings_file).values)


def test_options_reach_the_training(dmf_fast: Run, ratings_file: Path) -> None:
    def run(*options: str) -> dict[str, object]:
        return measures(dmf_fast("complete", ratings_file, "--json", *QUICK, *options))

    plain = run()
    assert plain == run()
    for options in (
        ["--seed", "1"], ["--initialization", "gaussian", "--init-scale", "0.1"],
        ["--initialization", "orthogonal"], ["--lr", "0.02"], ["--depth", "3"],
        ["--weight-decay", "0.1"], ["--bias-weight-decay", "0.1"], ["--no-bias"], ["--no-center"],
        ["--dtype", "float64"], ["--steps", "30"],
    ):  # fmt: skip
        assert run(*options)["train_loss"] != plain["train_loss"], options


def test_patience_stops_early(dmf_fast: Run, ratings_file: Path) -> None:
    options = ("--lr", "0.05", "--steps", "5000", "--patience", "2", "--json")

    run = measures(dmf_fast("complete", ratings_file, *QUICK, *options))

    assert int(str(run["steps"])) < 5000


def test_a_refit_is_a_run_on_all_ratings(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    refitted, again, kept = tmp_path / "refitted", tmp_path / "again", tmp_path / "kept"
    # The shrinkage of biases is chosen in a search.
    run = measures(dmf_fast("complete", ratings_file, "--no-bias", "--out", refitted, "--json", *QUICK))
    assert run["refit"]
    steps = ("--no-bias", "--depth", 2, "--hidden", "4", "--steps", run["refit_steps"])
    steps += ("--validation-fraction", 0, "--quiet")
    assert dmf_fast("complete", ratings_file, "--out", again, *steps).exit_code == 0
    assert dmf_fast("complete", ratings_file, "--out", kept, "--no-refit", *QUICK).exit_code == 0

    models = [load_file(folder / "model-depth-2.safetensors") for folder in (refitted, again, kept)]
    assert all(np.array_equal(models[0][name], models[1][name]) for name in models[0])
    assert not all(np.array_equal(models[0][name], models[2][name]) for name in models[0])


def test_several_depths_that_end_as_biases_are_all_kept(dmf_fast: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = [f"{cell // 12},{cell % 12},{random.normal():.3f}" for cell in random.permutation(240)[:120]]
    noise, out = tmp_path / "noise.csv", tmp_path / "out"
    noise.write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    result = dmf_fast("complete", noise, "--out", out, *QUICK, "--depth", "1,2,3")
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in out.glob("model-depth-*")} == {
        f"model-depth-{depth}.safetensors" for depth in (1, 2, 3)
    }


def test_the_error_of_the_biases_is_their_own_with_every_start(dmf_fast: Run, ratings_file: Path) -> None:
    start = ("--initialization", "gaussian")
    found = json.loads(dmf_fast("complete", ratings_file, "--json", *QUICK, *start).stdout)
    plain = json.loads(dmf_fast("complete", ratings_file, "--json", *QUICK).stdout)
    assert found["baselines"]["biases"] == plain["baselines"]["biases"]
    assert found["baselines"]["biases"]["validation_rmse"] > found["runs"][0]["validation_rmse"]


def test_duplicates_follow_the_policy(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    twice = tmp_path / "twice.csv"
    twice.write_text(ratings_file.read_text() + "129,film 19,1\n129,film 19,5\n")

    assert dmf_fast("complete", twice, *QUICK).exit_code == 2
    assert measures(dmf_fast("complete", twice, "--duplicates", "mean", "--json", *QUICK))


def test_an_existing_model_is_replaced_only_when_asked_and_nothing_else_ever(
    dmf_fast: Run, ratings_file: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained, out)
    arguments = ("complete", ratings_file, "--out", out, *QUICK, "--seed", 3)
    before = (out / MODEL).read_bytes()

    refused = dmf_fast(*arguments)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    (out / "thesis.txt").write_text("keep me")
    refused = dmf_fast(*arguments, "--overwrite")
    assert refused.exit_code == 2
    assert "holds thesis.txt, which does not belong to a trained model" in refused.stderr
    assert (out / MODEL).read_bytes() == before

    (out / "thesis.txt").unlink()
    assert dmf_fast(*arguments, "--overwrite").exit_code == 0
    assert (out / MODEL).read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("way", ["in it", "itself", "by a link", "below it", "its folder of logs", "config"])
def test_what_a_job_reads_is_never_replaced(
    dmf_fast: Run, ratings_file: Path, trained: Path, tmp_path: Path, way: str
) -> None:
    out, more = tmp_path / "out", []
    shutil.copytree(trained, out)
    ratings = tmp_path / "ratings" / "ratings.csv"
    ratings.parent.mkdir()
    shutil.copy(ratings_file, ratings)
    if way == "in it":
        ratings = Path(shutil.move(ratings, out / "ratings.csv"))
        write_sums(out)  # as if it had come with the model
    elif way == "itself":
        ratings = Path(shutil.copytree(ratings.parent, out, dirs_exist_ok=True))
    elif way == "by a link":
        (tmp_path / "link").symlink_to(out)
        more, out = ["--test", shutil.copy(ratings, out)], tmp_path / "link"
    elif way == "below it":
        ratings, out = ratings.parent, ratings.parent / "model"
    elif way == "its folder of logs":
        more = ["--tensorboard", out / "logs"]
    else:
        more = ["--config", out / "config.yaml"]
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))

    refused = dmf_fast("complete", ratings, *more, "--out", out, "--overwrite", *QUICK)

    assert refused.exit_code == 2, refused.stderr
    assert re.search(r"(contains|is|lies in) (RATINGS|--test|--tensorboard|--config), ", refused.stderr)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_a_run_killed_at_any_moment_resumes_bit_identically(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ["--depth", "2,3", "--hidden", "6", "--steps", "500", "--patience", "100000", "--quiet"]
    options += ["--evaluate-every", "20", "--threads", "1"]
    arguments = ["complete", str(ratings_file), *options]
    often = ["--out", str(killed), "--resume", "--checkpoint-every", "10"]
    assert dmf_fast(*arguments, "--out", whole, "--checkpoint-every", "0").exit_code == 0

    assert_runs(
        f"""
import signal
from pathlib import Path
from dmf_fast.cli.app import app
from dmf_fast.cli.output_folder import OutputFolder
from tests.killing import kill_again_and_again

OutputFolder.results = property(lambda folder: signal.pause())  # no run gets as far as its results
partial = Path({str(killed)!r} + ".partial")
kill_again_and_again(
    lambda: app({[*arguments, *often]!r}, standalone_mode=False),
    lambda: any(partial.glob("checkpoints/depth-*/*/version-*")),
)
"""
    )
    assert not killed.exists()
    other = dmf_fast(*arguments, "--out", killed, "--resume", "--lr", "0.5")
    assert other.exit_code == 2
    assert "lr was " in other.stderr
    again = dmf_fast(*arguments, "--out", killed)
    assert again.exit_code == 2
    assert "--resume" in again.stderr

    resumed = dmf_fast(*arguments, "--out", killed, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    for depth in (2, 3):
        name = f"model-depth-{depth}.safetensors"
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "killed.partial").exists()


def test_movielens_with_the_defaults_is_better_than_tuned_alternating_least_squares(
    dmf_fast: Run, movielens_folder: Path
) -> None:
    train, test = movielens_folder / "u1.base", movielens_folder / "u1.test"

    run = measures(dmf_fast("complete", train, "--test", test, "--quiet", "--json"))

    # The mean of the train ratings is off by 1.154 on this split, biases alone by 0.96, an ALS library
    # with biases and scaled regularization, best of five settings, by 0.928.
    assert float(str(run["test_rmse"])) <= 0.928


def test_a_width_is_found_and_reported(dmf_fast: Run, ratings_file: Path) -> None:
    plain = (
        "--coordinates",
        "plain",
        "--no-bias",
        "--optimizer",
        "group-rmsprop",
        "--lr",
        "0.01",
        "--weight-decay",
        "0",
    )
    job = ("--depth", "3", "--hidden", "auto", "--steps", "50", "--validation-fraction", "0")

    done = dmf_fast("complete", ratings_file, *plain, *job, "--json")

    (run,) = json.loads(done.stdout)["runs"]
    (trial,) = run["widths"]
    assert f"Width found: {trial['width']} of at most " in done.stderr
    assert trial["steps"] == run["steps"] == 50


def test_a_width_is_not_found_in_scaled_coordinates(dmf_fast: Run, ratings_file: Path) -> None:
    done = dmf_fast("complete", ratings_file, "--hidden", "auto")
    assert done.exit_code == 2
    assert "needs plain coordinates, a spectral initialization and no biases" in " ".join(done.stderr.split())
