"""Exported factors, read by the libraries that the formats belong to, give the predictions again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from dmf_fast.data import IdMap
from dmf_fast.data.object_id_map import ObjectIdMap
from dmf_fast.serving import TwoFactors, export_factors

USERS = IdMap(pa.array([7, -3, 2**62]))
FILMS = IdMap(pa.array(["Amélie", "東京物語", "", "a film\nof two lines"]))


def drawn_factors(bias: bool = True) -> TwoFactors:
    generator = torch.Generator().manual_seed(0)
    a, b, row_bias, column_bias = (
        torch.randn(*sizes, generator=generator) for sizes in ((3, 2), (2, 4), (3,), (4,))
    )
    return TwoFactors(a, b, row_bias if bias else None, column_bias if bias else None, 0.1 + 0.2)


def read(path: Path) -> dict[str, Any]:
    """Return what a format holds under the names of the ``.npz``, ids as lists."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            found = dict(file)
    elif path.suffix == ".safetensors":
        found = load_file(path)
        for name in ("row_ids", "column_ids"):
            if name not in found:
                offsets, text = found[f"{name}.offsets"], found[f"{name}.text"].tobytes()
                found[name] = np.array([text[begin:end].decode() for begin, end in pairwise(offsets)])
    else:
        found = {}
        for side in ("row", "column"):
            table = pq.read_table(path / f"{side}s.parquet")
            found[f"{side}_ids"] = np.array(table["id"].to_pylist())
            found[f"{side}_factors"] = np.array(table["factors"].to_pylist(), dtype=np.float32)
            found[f"{side}_bias"] = table["bias"].to_numpy()
            found["mean"] = float(table.schema.metadata[b"mean"])
    return found


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@pytest.mark.parametrize("bias", [True, False])
def test_predictions_and_ids_come_back(suffix: str, bias: bool, tmp_path: Path) -> None:
    two_factors, path = drawn_factors(bias), tmp_path / "new folder" / f"factors{suffix}"
    export_factors(two_factors, USERS, FILMS, path)
    export_factors(two_factors, USERS, FILMS, path)  # takes the place of the first

    found = read(path)

    assert found["row_ids"].tolist() == [-3, 7, 2**62]
    assert found["column_ids"].tolist() == sorted(FILMS.ids.tolist())
    assert found["mean"] == two_factors.mean
    biases = found["row_bias"][:, None] + found["column_bias"]
    expected = two_factors.a @ two_factors.b
    if bias:
        expected += two_factors.row_bias[:, None] + two_factors.column_bias
    found_predictions = found["row_factors"] @ found["column_factors"].T + biases
    np.testing.assert_allclose(found_predictions, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert not list(tmp_path.rglob("*.partial"))


def test_parquet_keeps_factors_as_lists_of_fixed_size(tmp_path: Path) -> None:
    export_factors(drawn_factors(), USERS, FILMS, tmp_path / "factors.parquet")
    schema = pq.read_table(tmp_path / "factors.parquet" / "columns.parquet").schema
    assert schema.field("factors").type == pa.list_(pa.float32(), 2)
    assert schema.field("id").type == pa.large_string()


def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"factors.csv must end in one of .npz, .safetensors, .parquet"):
        export_factors(drawn_factors(), USERS, FILMS, tmp_path / "factors.csv")
    with pytest.raises(ValueError, match="`row_ids` must hold 3 ids, one for each row"):
        export_factors(drawn_factors(), FILMS, FILMS, tmp_path / "factors.npz")
    with pytest.raises(ValueError, match="`row_ids` must be integers or text, got others"):
        export_factors(drawn_factors(), ObjectIdMap([1.5, 2.5, 3.5]), FILMS, tmp_path / "factors.npz")
    ends_in_nul = IdMap(pa.array(["a", "a\0", "b", "c"]))
    with pytest.raises(ValueError, match=r"must not end in NUL, which NumPy drops"):
        export_factors(drawn_factors(), USERS, ends_in_nul, tmp_path / "factors.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "factors.parquet").write_text("precious")
    with pytest.raises(FileExistsError, match="must be a folder, got a file"):
        export_factors(drawn_factors(), USERS, FILMS, tmp_path / "factors.parquet")
    assert (tmp_path / "factors.parquet").read_text() == "precious"
