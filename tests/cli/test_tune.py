"""``dmf-fast tune``: a model at least as good as that of ``complete``, in a folder of the same kind."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result

from dmf_fast.tuning import trial
from dmf_fast.tuning.kept_trials import Propose
from dmf_fast.tuning.proposal import Proposal
from dmf_fast.tuning.shared_trials import SharedTrials

Run = Callable[..., Result]
QUICK = ("--depth", "2", "--steps", "40", "--evaluate-every", "10", "--validation-fraction", "0.1", "--quiet")
TRIALS = ("--trials", "5", "--hidden", "4")
MODEL = "model-depth-2.safetensors"


@pytest.fixture(scope="module")
def tuned(dmf_fast: Run, ratings_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``dmf-fast tune`` writes for the small file; tests only read it."""
    out = tmp_path_factory.mktemp("tuned") / "model"
    result = dmf_fast("tune", ratings_file, "--out", out, *TRIALS, *QUICK)
    assert result.exit_code == 0, result.stderr
    return out


def test_the_first_trial_is_complete_itself_and_none_worse_is_chosen(
    dmf_fast: Run, ratings_file: Path, tuned: Path
) -> None:
    # A search has one validation part, as a job without a refit has.
    arguments = ("complete", ratings_file, "--hidden", "4", "--no-refit", "--json", *QUICK)
    plain = json.loads(dmf_fast(*arguments).stdout)
    found = json.loads((tuned / "metrics.json").read_text())
    trials = pq.read_table(tuned / "trials.parquet").to_pylist()

    assert trials[0]["validation_rmse"] == plain["runs"][0]["validation_rmse"]
    assert len(trials) == found["tuning"]["trials"] == 5
    best = min(one["validation_rmse"] for one in trials if one["state"] == "complete")
    assert found["tuning"]["validation_rmse"] == best
    assert best <= found["tuning"]["validation_rmse_before"]


def test_what_was_given_is_not_searched_for(tuned: Path) -> None:
    searched = set(pq.read_table(tuned / "trials.parquet").column_names)

    assert {"weight_decay", "bias_weight_decay", "degree_exponent"} <= searched
    assert not {"hidden", "depth"} & searched


def test_the_folder_serves_as_that_of_complete(dmf_fast: Run, tuned: Path, ratings_file: Path) -> None:
    assert dmf_fast("recommend", tuned, "100").exit_code == 0
    assert dmf_fast("evaluate", tuned, ratings_file).exit_code == 0
    assert "| biases |" in dmf_fast("info", tuned).stdout
    assert not (tuned / "checkpoints").exists()


def test_complete_trains_the_best_model_again_from_its_config(
    dmf_fast: Run, tuned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    result = dmf_fast("complete", "--config", tuned / "config.yaml", "--out", out, "--quiet")

    assert result.exit_code == 0, result.stderr
    assert (out / MODEL).read_bytes() == (tuned / MODEL).read_bytes()


def test_an_interrupted_search_resumes_to_the_same_model(
    dmf_fast: Run, tuned: Path, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save = tmp_path / "out", trial.save_trials

    def interrupted(path: Path, job: dict[str, Any], trials: list[trial.TuningTrial]) -> None:
        save(path, job, trials)
        if len(trials) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dmf_fast.tuning.kept_trials.save_trials", interrupted)
        result = dmf_fast("tune", ratings_file, "--out", out, *TRIALS, *QUICK)

    assert result.exit_code == 130
    assert "resume with" in result.stderr
    resumed = dmf_fast(*shlex.split(result.stderr.splitlines()[-1])[1:])
    assert resumed.exit_code == 0, resumed.stderr
    assert (out / MODEL).read_bytes() == (tuned / MODEL).read_bytes()


def test_several_depths_are_choices(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    result = dmf_fast("tune", ratings_file, "--out", out, *TRIALS, *QUICK, "--depth", "2,3")

    assert result.exit_code == 0, result.stderr
    assert set(pq.read_table(out / "trials.parquet")["depth"].to_pylist()) <= {2, 3}
    depth = yaml.safe_load((out / "config.yaml").read_text())["depth"]
    assert (out / f"model-depth-{depth}.safetensors").is_file()


def test_a_person_sees_the_best_trials_and_a_log_file_all_of_them(dmf_fast: Run, ratings_file: Path) -> None:
    result = dmf_fast("tune", ratings_file, *TRIALS, *QUICK[:-1])

    assert result.exit_code == 0, result.stderr
    assert "Best trials" in result.stdout
    assert "RMSE, fold 1" in result.stdout  # which is not the RMSE over all folds, of the table below
    assert [line for line in result.stderr.splitlines() if line.startswith("trial 5 of 5")]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--validation-fraction", "0"], "--validation-fraction above 0"),
        (
            ["--weight-decay", 1, "--bias-weight-decay", 1, "--degree-exponent", 1],
            "Nothing is left",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(
    dmf_fast: Run, ratings_file: Path, options: list[object], word: str
) -> None:
    refused = dmf_fast("tune", ratings_file, *TRIALS, *QUICK, *options)

    assert refused.exit_code == 2
    assert word in refused.stderr


def test_several_trials_at_once_are_the_same_every_time(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    tables = []
    for name in ("one", "other"):
        out = tmp_path / name
        result = dmf_fast("tune", ratings_file, "--out", out, *TRIALS, *QUICK, "--parallel", "2")
        assert result.exit_code == 0, result.stderr
        tables.append(pq.read_table(out / "trials.parquet").drop_columns("seconds"))
    assert tables[0].equals(tables[1])
    assert (tmp_path / "one" / MODEL).read_bytes() == (tmp_path / "other" / MODEL).read_bytes()


def test_commands_that_name_one_journal_share_the_search(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    arguments = (*TRIALS, *QUICK, "--journal", tmp_path / "study.journal")
    for name in ("one", "other"):
        result = dmf_fast("tune", ratings_file, "--out", tmp_path / name, *arguments)
        assert result.exit_code == 0, result.stderr
    tables = [pq.read_table(tmp_path / name / "trials.parquet") for name in ("one", "other")]
    assert tables[0].equals(tables[1])
    assert (tmp_path / "one" / MODEL).read_bytes() == (tmp_path / "other" / MODEL).read_bytes()


def test_a_journal_in_the_folder_that_is_written_is_refused(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    refused = dmf_fast("tune", ratings_file, "--out", out, *TRIALS, *QUICK, "--journal", out / "a.journal")
    assert refused.exit_code == 2
    assert "--journal" in refused.stderr
    assert not out.exists()


def test_ctrl_c_says_that_the_journal_keeps_the_trials(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "study.journal"
    arguments = (*TRIALS, *QUICK, "--journal", journal)
    asked = SharedTrials.ask

    def interrupted(trials: SharedTrials, propose: Propose) -> list[Proposal]:
        if len(trials.ended) == 2:
            raise KeyboardInterrupt
        return asked(trials, propose)

    with monkeypatch.context() as patch:
        patch.setattr(SharedTrials, "ask", interrupted)
        result = dmf_fast("tune", ratings_file, *arguments)
    assert result.exit_code == 130
    assert f"after 2 of 5 trials, which {journal} keeps; repeat the command" in result.stderr
    assert dmf_fast("tune", ratings_file, *arguments).exit_code == 0
