"""The page that ``dmf-fast complete`` leaves, and ``dmf-fast report``, which writes it again."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dmf_fast.cli.options import CompleteOptions
from dmf_fast.cli.page import _settings
from dmf_fast.files.digests import check_sums
from dmf_fast.files.lock import locked
from dmf_fast.serving.trained_folder import TrainedFolder
from tests.cli.runs import QUICK, Run
from tests.pages import Page, assert_self_contained

HOSTILE = "<script>alert(1)</script>\"><img src=x onerror='alert(2)'> & {{ 7 * 7 }}"


def page_in(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def measured(dmf_fast: Run, ratings_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that test ratings have measured; tests only read it."""
    out = tmp_path_factory.mktemp("measured") / "model"
    test = ("--test", ratings_file, "--top-k", 3)
    result = dmf_fast("complete", ratings_file, "--out", out, *test, *QUICK, "--depth", "auto")
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture
def copy(measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured, tmp_path / "model"))


def test_the_page_loads_nothing_and_its_links_and_ids_hold(measured: Path) -> None:
    page = page_in(measured)

    assert_self_contained(page)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = page.values("href", "xlink:href")
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert "svg" in {tag for tag, _ in page.tags}


def test_the_page_shows_what_the_folder_holds(measured: Path) -> None:
    text = page_in(measured).text
    results = json.loads((measured / "metrics.json").read_text())
    (run,) = results["runs"]

    assert "300, 50.000% of the matrix" in text
    for number in (run["validation_rmse"], run["test_rmse"], results["baselines"]["biases"]["test_rmse"]):
        assert f"{number:.4g}" in text
    for candidate in run["candidates"]:
        assert candidate["name"] in text
    for heading in (
        "Data", "How good it is", "What was chosen, and why", "Learning curves", "Errors by value",
        "Errors by number of ratings", "Calibration", "Examples of recommendations", "Settings", "Timings",
    ):  # fmt: skip
        assert heading in text


def test_the_examples_are_what_recommend_says(dmf_fast: Run, measured: Path) -> None:
    trained = TrainedFolder.open(measured)
    counts = trained.seen.offsets.diff().tolist()
    user = trained.row_ids.ids[counts.index(max(counts))].as_py()
    found = json.loads(dmf_fast("recommend", measured, user, "--json").stdout)["recommendations"]

    (_, after) = page_in(measured).text.split(f"For user {user}, who has {max(counts)} ratings.")

    places = [after.index(item["item"]) for item in found]
    assert places == sorted(places)
    assert f"{found[0]['prediction']:.2f}" in after


def test_the_page_is_made_again_from_the_folder_alone(dmf_fast: Run, copy: Path, ratings_file: Path) -> None:
    page = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()

    result = dmf_fast("report", copy)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"The page is {copy / 'report.html'}\n"
    assert (copy / "report.html").read_bytes() == page
    check_sums(copy)
    assert {path.name for path in copy.parent.iterdir()} == {copy.name}
    again = dmf_fast("complete", ratings_file, "--out", copy, "--overwrite", *QUICK)
    assert again.exit_code == 0, again.stderr


def test_without_test_ratings_the_page_says_how_to_measure(trained: Path) -> None:
    text = page_in(trained).text

    assert "No test ratings were given." in text
    assert "Errors by value" not in text
    assert "Examples of recommendations" in text


def test_ids_and_names_are_text_and_no_markup(dmf_fast: Run, tmp_path: Path) -> None:
    pairs = [(user, item) for user in range(9) for item in range(9) if (user + item) % 3]
    lines = [f"{HOSTILE}{user}\t{HOSTILE}{item}\t{1 + (user * item) % 5}" for user, item in pairs]
    ratings, out = tmp_path / "<i>ratings.tsv", tmp_path / "<b>model"
    ratings.write_text("user\titem\trating\n" + "\n".join(lines) + "\n")

    result = dmf_fast("complete", ratings, "--test", ratings, "--out", out, "--separator", "\\t", *QUICK)

    assert result.exit_code == 0, result.stderr
    page = page_in(out)
    assert_self_contained(page)
    assert not {"b", "i"} & {tag for tag, _ in page.tags}
    assert HOSTILE in page.text
    assert "<b>model" in page.text


def test_a_page_that_cannot_be_written_costs_no_model(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError("no page today")

    out = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr("dmf_fast.cli.page.page_of", fail)
        result = dmf_fast("complete", ratings_file, "--out", out, *QUICK)

    assert result.exit_code == 0
    assert "Warning: report.html could not be written (no page today)" in result.stderr
    assert not (out / "report.html").exists()
    check_sums(out)
    assert dmf_fast("report", out).exit_code == 0
    assert "Learning curves" in page_in(out).text


def test_without_matplotlib_the_page_has_all_but_the_figures(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "model"

    result = dmf_fast("complete", ratings_file, "--out", out, *(word for word in QUICK if word != "--quiet"))

    assert result.exit_code == 0, result.stderr
    assert "report.html has no figures" in result.stderr
    page = page_in(out)
    assert "pip install 'dmf-fast[plots]'" in page.text
    assert "Examples of recommendations" in page.text
    assert "svg" not in {tag for tag, _ in page.tags}


def test_the_page_of_several_depths_has_all_of_them_and_is_about_the_best(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    result = dmf_fast("complete", ratings_file, "--out", out, *QUICK, "--depth", "1,2", "--json")

    runs = {run["depth"]: run["validation_rmse"] for run in json.loads(result.stdout)["runs"]}
    text = page_in(out).text
    assert "All depths" in text
    best, other = sorted(runs, key=lambda depth: runs[depth])
    assert text.index(f"this model, depth {best}") < text.index(f"this model, depth {other}")
    assert f"{runs[other]:.4g}" in text


def test_row_blocks_leave_the_page_to_the_command(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    blocks, out = tmp_path / "ratings.blocks", tmp_path / "model"
    dmf_fast("prepare", ratings_file, "--out", blocks, "--blocks", 2)
    words = [word for word in QUICK if word != "--quiet"]

    result = dmf_fast("complete", blocks, "--out", out, "--test", ratings_file, *words)

    assert result.exit_code == 0, result.stderr
    assert "report.html is skipped for row blocks" in result.stderr
    assert not (out / "report.html").exists()
    quiet = dmf_fast("complete", blocks, "--out", tmp_path / "quiet", *QUICK)
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    made = dmf_fast("report", out)
    assert made.exit_code == 0, made.stderr
    assert "Errors by number of ratings" in page_in(out).text
    values = json.loads((out / "metrics.json").read_text())["data"]["values"]
    assert sum(part["count"] for part in values) == 300
    check_sums(out)


def test_a_folder_that_a_job_is_about_to_replace_is_left_alone(dmf_fast: Run, copy: Path) -> None:
    before = (copy / "report.html").stat().st_mtime_ns
    with locked(copy.with_name("model.partial")):
        refused = dmf_fast("report", copy)

    assert refused.exit_code == 2
    assert "in use" in refused.stderr
    assert (copy / "report.html").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml", "history.parquet"])
def test_a_damaged_or_missing_file_is_named(dmf_fast: Run, copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"{}")
    damaged = dmf_fast("report", copy)
    (copy / name).unlink()
    missing = dmf_fast("report", copy)

    for refused in (damaged, missing):
        assert refused.exit_code == 2
        assert name in refused.stderr
        assert refused.stderr.startswith("Error: ")


def test_a_folder_without_a_model_is_refused_and_nothing_is_created(dmf_fast: Run, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "no" / "such"):
        assert dmf_fast("report", folder).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_curves_are_those_of_the_history(measured: Path) -> None:
    history = pq.read_table(measured / "history.parquet")
    depths = history.column("depth").to_pylist()
    steps = history.column("step").to_pylist()
    changes = [place for place in range(1, len(depths)) if depths[place] != depths[place - 1]]

    text = page_in(measured).text

    assert "train loss" in text
    for place in changes:
        assert f"depth {depths[place]} from step {steps[place]}" in text


def test_settings_are_shown_as_they_were_given() -> None:
    given = {"ratings": "r.csv", "seed": 1, "top_k": 1, "init_scale": 0.0, "bias": False, "columns": [0, 1]}

    topic = _settings(CompleteOptions().values() | given)

    assert topic.facts == {
        "ratings": "r.csv", "seed": "1", "top_k": "1", "init_scale": "0.0", "bias": "no", "columns": "[0, 1]",
    }  # fmt: skip
    assert (topic.more_facts["warmup"], topic.more_facts["refit"]) == ("0", "yes")


@pytest.mark.parametrize(
    ("options", "said", "unsaid"),
    [
        ([], "the RMSE of the biases alone", "the mean alone"),
        (["--no-bias"], "the RMSE of the mean alone", "biases alone"),
        (["--no-bias", "--no-center"], "the RMSE of predicting 0", "alone"),
        (["--coordinates", "plain"], "only one candidate", "Factors are only used"),
        (["--max-seconds", "0"], "its time was up (--max-seconds)", "no longer improved"),
        (["--steps", "2"], "it reached the maximum number of steps (--steps)", "no longer improved"),
        (["--steps", "2000"], "the validation error no longer improved", "--steps)"),
    ],
)
def test_the_page_says_how_this_run_chose(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, options: list[str], said: str, unsaid: str
) -> None:
    result = dmf_fast("complete", ratings_file, "--out", tmp_path / "model", *QUICK, *options)
    assert result.exit_code == 0, result.stderr

    _, _, after = page_in(tmp_path / "model").text.partition("What was chosen, and why")
    text = " ".join(after[after.index("What was chosen, and why") :].partition("Learning curves")[0].split())

    assert said in text
    assert unsaid not in text


def test_the_page_names_only_what_is_on_it(dmf_fast: Run, tmp_path: Path) -> None:
    ratings, out = tmp_path / "ratings.csv", tmp_path / "model"
    pairs = [(user, item) for user in range(9) for item in range(9) if not user or (user + item) % 3]
    ratings.write_text("user,item,rating\n" + "\n".join(f"{u},{i},{1 + u * i % 5}" for u, i in pairs))

    result = dmf_fast("complete", ratings, "--test", ratings, "--out", out, *QUICK)

    assert result.exit_code == 0, result.stderr
    text = page_in(out).text
    assert "For user 0," not in text  # who has rated all items
    assert "Users who have rated all items are left out." in text
    assert "with popularity" not in text
