"""The files of row blocks: what they hold, when they are replaced, and that damage is detected."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmf_fast.data import DataError, IdMap
from dmf_fast.data.block_files import (
    BLOCKS_FACTS,
    COLUMN_IDS,
    ROWS_A_BATCH,
    BlocksFacts,
    block_name,
    read_blocks_facts,
)
from dmf_fast.data.blocks import prepare_blocks
from tests.data.row_blocks import TEXT, blocks_of, contents, skewed_file, written
from tests.killing import kill_again_and_again
from tests.publishing import all_is_flushed


def test_facts_are_written_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TEXT)
    facts = prepare_blocks(tmp_path / "a.csv", tmp_path / "out", 2)
    record = json.loads((tmp_path / "out" / BLOCKS_FACTS).read_text())
    assert msgspec.convert(record, BlocksFacts) == facts
    assert record["format"] == "dmf_fast row blocks"
    assert (record["version"], record["rows"], record["rows_a_block"], record["columns"]) == (1, 3, 2, 3)
    assert (record["entries"], record["block_entries"], record["dtype"]) == (6, [3, 3], "float32")


DAMAGES: dict[str, Callable[[str], str]] = {
    "other blocks": lambda text: text.replace('"blocks": 2', '"blocks": 3'),
    "other rows": lambda text: text.replace('"rows": 3', '"rows": 7'),
    "other entries": lambda text: text.replace('"entries": 6', '"entries": 7'),
    "a later version": lambda text: text.replace('"version": 1', '"version": 2'),
    "another format": lambda text: text.replace("dmf_fast row blocks", "dmf_fast ratings"),
    "a value of no size": lambda text: text.replace('"largest": 5.0', '"largest": NaN'),
    "half of it": lambda text: text[: len(text) // 2],
    "a list": lambda text: "[]",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_facts_that_contradict_themselves_are_an_error_that_names_the_folder(
    tmp_path: Path, damage: str
) -> None:
    (tmp_path / "a.csv").write_text(TEXT)
    prepare_blocks(tmp_path / "a.csv", tmp_path / "out", 2)
    facts = tmp_path / "out" / BLOCKS_FACTS
    text = DAMAGES[damage](facts.read_text())
    assert text != facts.read_text()
    facts.write_text(text)
    with pytest.raises(DataError, match=r"out is not a folder of row blocks, or is damaged \("):
        read_blocks_facts(tmp_path / "out")


def test_column_ids_are_the_file_that_an_id_map_saves(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text(TEXT)
    prepare_blocks(source, tmp_path / "out", 2)

    IdMap(["z", "y", "x"]).save(tmp_path / "ids")

    assert (tmp_path / "out" / COLUMN_IDS).read_bytes() == (tmp_path / "ids").read_bytes()
    assert IdMap.load(tmp_path / "out" / COLUMN_IDS).ids.to_pylist() == ["x", "y", "z"]


def test_a_block_has_batches_of_a_fixed_number_of_rows(tmp_path: Path) -> None:
    entries = ROWS_A_BATCH + 5
    table = {
        "user": np.arange(entries) % 1100,
        "item": np.arange(entries) // 1100,
        "rating": np.ones(entries),
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")

    prepare_blocks(tmp_path / "a.parquet", tmp_path / "out", 1)

    with pa.ipc.open_file(tmp_path / "out" / block_name(0)) as file:
        assert [len(file.get_batch(k)) for k in range(file.num_record_batches)] == [ROWS_A_BATCH, 5]


def test_only_row_blocks_are_replaced_and_never_read_as_ratings(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", ["1,1,1", "2,1,1"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match=r"other holds thesis\.txt, which does not belong to row blocks"
    ):
        prepare_blocks(source, tmp_path / "other", 1)
    prepare_blocks(source, tmp_path / "out", 2)
    prepare_blocks(source, tmp_path / "out", 1)
    assert len(blocks_of(tmp_path / "out")) == 1
    with pytest.raises(DataError, match="out is already a folder of row blocks; name files of ratings"):
        prepare_blocks(tmp_path / "out", tmp_path / "again", 1)


def test_everything_is_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(TEXT)
    (tmp_path / "out").mkdir()
    with all_is_flushed(tmp_path / "out", monkeypatch) as renamed:
        prepare_blocks(tmp_path / "in" / "a.csv", tmp_path / "out" / "blocks", 2)
    assert renamed == ["blocks"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["blocks"]


def test_a_killed_run_leaves_nothing_that_is_read_and_the_next_one_tidies_up(
    tmp_path: Path,
) -> None:
    source = skewed_file(tmp_path / "a.parquet", entries=200_000)
    prepare_blocks(source, tmp_path / "expected", 3, duplicates="last")
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from pathlib import Path\n"
        "from tests.data.test_block_files import killed_runs\n"
        "killed_runs(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    out = tmp_path / "results" / "out"
    command = [sys.executable, "-c", program, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    prepare_blocks(source, out, 3, duplicates="last")

    assert contents(out) == contents(tmp_path / "expected")
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def killed_runs(source: Path, out: Path) -> None:
    """Kill runs in processes of their own; each leaves no folder."""

    def run() -> None:
        prepare_blocks(source, out, 3, duplicates="last", threads=1)
        while True:  # it is killed, at the latest now
            pass

    def has_begun() -> bool:
        assert not out.exists()
        return out.parent.exists() and any(out.parent.iterdir())

    kill_again_and_again(run, has_begun)
