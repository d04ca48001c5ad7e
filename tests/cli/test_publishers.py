"""Every writer of files flushes, renames into place and flushes the folder; damage is detected."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from dmf_fast import Observations, save_observations
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.data import IdMap, as_ratings, save_ratings
from dmf_fast.data.blocks import prepare_blocks
from dmf_fast.experiments.page.report import write_report
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.files.checkpoint import save_checkpoint
from dmf_fast.serving import SeenColumns, TwoFactors, export_factors
from dmf_fast.training import Trial, fit_many
from dmf_fast.training.trial_files import checkpoint_of, load_result
from dmf_fast.tuning.trial import TuningTrial, save_trials
from tests.cli.runs import QUICK, Run
from tests.publishing import all_is_flushed

TRAIN = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
IDS = IdMap(["ann", "bob"])
TRIAL = Trial({"lr": 0.1}, [torch.eye(2), torch.eye(2)], TRAIN, partial(torch.optim.SGD, lr=0.1))


def export(suffix: str) -> Callable[[Path], None]:
    return lambda folder: export_factors(
        TwoFactors(torch.eye(2), torch.eye(2)), IDS, IDS, folder / f"a{suffix}"
    )


def run_a_job(folder: Path) -> None:
    output = OutputFolder(folder / "out")
    with output.opened({"steps": 1}):
        output.agree_on_data({"ratings": "a"})
        (output.results / "trained.json").write_text("{}")


def save_blocks(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        ratings = Path(elsewhere, "ratings.csv")
        ratings.write_text("ann,7,4.5\nbob,9,3\n")
        prepare_blocks(ratings, folder, 2)


WRITERS: dict[str, Callable[[Path], object]] = {
    "observations": lambda folder: save_observations(TRAIN, folder / "observations"),
    "store": lambda folder: save_ratings(as_ratings((["ann"], [7], [4.5])), folder / "store"),
    "row blocks": lambda folder: save_blocks(folder / "blocks"),
    "ids": lambda folder: IDS.save(folder / "ids"),
    "seen columns": lambda folder: SeenColumns.of(TRAIN).save(folder / "seen"),
    "npz": export(".npz"),
    "safetensors": export(".safetensors"),
    "parquet": export(".parquet"),
    "checkpoint": lambda folder: save_checkpoint(folder / "run", {}, {"step": torch.ones(1)}),
    "trials of a search": lambda folder: save_trials(
        folder / "trials", {}, [TuningTrial(0, "complete", {}, 0.5, 1, 1, 1.0, {})]
    ),
    "trials": lambda folder: fit_many([TRIAL], folder=folder / "trials"),
    "table": lambda folder: cached_table(folder / "table", lambda: pa.table({"a": [1]})),
    "report": lambda folder: write_report({"a": (Section("A", "B", {}, []), 1.0)}, folder / "page", {}),
    "job": run_a_job,
}


@pytest.mark.parametrize("name", WRITERS)
def test_everything_is_flushed_before_it_is_renamed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with all_is_flushed(tmp_path, monkeypatch) as renamed:
        WRITERS[name](tmp_path)
    assert renamed
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]


def test_what_commands_write_is_flushed_before_it_is_renamed(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    with all_is_flushed(tmp_path, monkeypatch) as renamed:
        assert dmf_fast("tune", ratings_file, "--trials", 1, "--out", model, *QUICK[2:]).exit_code == 0
        for suffix in (".csv", ".parquet"):
            out = tmp_path / f"out{suffix}"
            assert dmf_fast("predict", model, ratings_file, "--out", out).exit_code == 0
            assert dmf_fast("recommend", model, "--all", "--out", out, "--overwrite").exit_code == 0
    assert renamed.count("model") == 1
    assert renamed.count("out.csv") == 2


@pytest.mark.parametrize("name", ["summary.json", "history.parquet", "factors.safetensors", "SHA256SUMS"])
def test_a_damaged_result_of_a_trial_is_noticed(tmp_path: Path, name: str) -> None:
    fit_many([TRIAL], folder=tmp_path)
    (kept,) = tmp_path.glob("trial-*")
    assert not checkpoint_of(kept).exists()
    assert torch.equal(load_result(TRIAL, kept).factors[0], fit_many([TRIAL]).results[0].factors[0])
    whole = (kept / name).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 20)):
        (kept / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="is not the result of a trial, or is damaged"):
            load_result(TRIAL, kept)


def test_a_damaged_table_is_computed_again(tmp_path: Path) -> None:
    cached_table(tmp_path / "kept", lambda: pa.table({"a": [1]}))
    content = bytearray((tmp_path / "kept" / "table").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "kept" / "table").write_bytes(content)
    with pytest.warns(UserWarning, match="kept is not a table of results, or is damaged"):
        table = cached_table(tmp_path / "kept", lambda: pa.table({"a": [2]}))
    assert table["a"].to_pylist() == [2]
    assert cached_table(tmp_path / "kept", lambda: pa.table({"a": [3]})) == table
