"""Choice of the best step, the cache of ratings, and logs for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.runs import MODEL, QUICK, Run, json_of


@pytest.fixture(scope="module")
def timed_lines(ratings_file: Path) -> list[str]:
    """The lines of the small file with times, the later the higher the film's number."""
    lines = ratings_file.read_text().splitlines()[1:]
    return [f"{line},{film}" for line in lines for film in [int(line.split(",")[1].split()[1])]]


@pytest.fixture
def timed_file(timed_lines: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "timed.csv"
    path.write_text("user,item,rating,time\n" + "\n".join(timed_lines) + "\n")
    return path


def test_the_latest_ratings_validate_and_are_trained_on_in_the_end(
    dmf_fast: Run, timed_file: Path, tmp_path: Path
) -> None:
    # The shrinkage of biases is chosen in a search.
    options = ("--no-bias", "--split", "time", "--validation-fraction", "0.2", "--json", *QUICK)

    found = json_of(dmf_fast("complete", timed_file, "--out", tmp_path / "out", *options))

    (run,) = found["runs"]
    assert found["data"]["validation_entries"] == 60
    assert run["refit"]
    all_for_so_long = (
        "--steps",
        run["refit_steps"],
        "--validation-fraction",
        "0",
        "--no-bias",
        "--depth",
        "2",
        "--hidden",
        "4",
        "--quiet",
    )
    assert dmf_fast("complete", timed_file, "--out", tmp_path / "again", *all_for_so_long).exit_code == 0
    assert (tmp_path / "out" / MODEL).read_bytes() == (tmp_path / "again" / MODEL).read_bytes()


def test_the_latest_ratings_as_a_file_validate_alike(
    dmf_fast: Run, timed_lines: list[str], timed_file: Path, tmp_path: Path
) -> None:
    times = [int(line.rsplit(",", 1)[1]) for line in timed_lines]
    order = np.argsort(times, kind="stable")
    early, late = (sorted(part) for part in (order[:240], order[240:]))
    for name, part in (("early.csv", early), ("late.csv", late)):
        lines = [timed_lines[place].rsplit(",", 1)[0] for place in part]
        (tmp_path / name).write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    by_time = json_of(
        dmf_fast(
            "complete", timed_file, "--split", "time", "--validation-fraction", "0.2", "--no-refit", "--json",
            *QUICK,
        )
    )  # fmt: skip

    # Films of the late part alone are unknown to the early file, so that its validation part is smaller.
    by_file = json_of(
        dmf_fast("complete", tmp_path / "early.csv", "--validation", tmp_path / "late.csv", "--json", *QUICK)
    )

    assert by_file["data"]["entries"] == 240
    assert 0 < by_file["data"]["validation_entries"] <= by_time["data"]["validation_entries"] == 60
    assert by_file["runs"][0]["validation_rmse"] is not None
    assert not by_file["runs"][0]["refit"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--split", "time"], "3 columns found, but times need a fourth one, as for --split time"),
        (["--split", "sometimes"], "random, time"),
        (["--split", "time", "--validation-fraction", "0"], "--split time needs"),
        (["--validation", "{file}", "--validation-fraction", "0.1"], "mutually exclusive"),
        (["--top-k", "3"], "--top-k needs --test"),
        (["--test", "{file}", "--relevant-from", "3"], "--relevant-from needs --top-k"),
    ],
)
def test_options_that_contradict_one_another_are_refused(
    dmf_fast: Run, ratings_file: Path, options: list[str], word: str
) -> None:
    filled = [option.format(file=ratings_file) for option in options]

    refused = dmf_fast("complete", ratings_file, *filled, *QUICK)

    assert refused.exit_code == 2
    assert word in refused.stderr


def test_a_validation_file_of_other_ids_is_refused(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    (tmp_path / "others.csv").write_text("user,item,rating\n1,x,2\n3,y,4\n")

    refused = dmf_fast("complete", ratings_file, "--validation", tmp_path / "others.csv", *QUICK)

    assert refused.exit_code == 2
    assert "no pair of ids that" in refused.stderr


def test_a_cache_gives_the_same_model(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    for out in ("plain", "first", "second"):
        cache = () if out == "plain" else ("--cache", tmp_path / "cache")
        assert dmf_fast("complete", ratings_file, *cache, "--out", tmp_path / out, *QUICK).exit_code == 0

    models = {(tmp_path / out / MODEL).read_bytes() for out in ("plain", "first", "second")}
    assert len(models) == 1
    assert (tmp_path / "cache" / "store.json").is_file()


def test_tensorboard_gets_the_history_of_the_search_and_the_losses_of_the_refit(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"

    assert dmf_fast("complete", ratings_file, "--tensorboard", logs, "--out", out, *QUICK).exit_code == 0

    search = EventAccumulator(str(logs / "depth-2" / "search")).Reload()
    history = pq.read_table(out / "history.parquet")
    for name in ("train_loss", "validation_rmse"):
        events = search.Scalars(name)
        assert [event.step for event in events] == history["step"].to_pylist()
        np.testing.assert_allclose([event.value for event in events], history[name].to_numpy(), rtol=1e-6)
    refit = EventAccumulator(str(logs / "depth-2" / "refit")).Reload()
    assert refit.Scalars("train_loss")
    assert "validation_rmse" not in refit.Tags()["scalars"]
