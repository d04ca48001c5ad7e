"""Exports factors and biases with the ids of rows and columns to files that other software reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from dmf_fast.checks import printable
from dmf_fast.data.id_map import IdMap
from dmf_fast.files.atomic import atomic_file, atomic_folder
from dmf_fast.files.tensors import write_tensors
from dmf_fast.serving.two_factors import TwoFactors

_FORMAT = "dmf_fast factors"


def export_factors(two_factors: TwoFactors, row_ids: IdMap, column_ids: IdMap, path: str | Path) -> None:
    """Write factors, biases and ids to ``path``, in the format of its suffix.

    In every format, the prediction for row i and column j is ``mean + bias_i + bias_j + factors_i ·
    factors_j``; for a model without biases, zeros are written.

    ``.npz``
        NumPy arrays: ``row_factors`` ``(m, h)``, ``column_factors`` ``(n, h)``, ``row_bias``,
        ``column_bias``, ``mean``, and ``row_ids`` and ``column_ids``, int64 or text.
    ``.safetensors``
        Tensors with the same names. Text is stored as in Arrow: the id k is the UTF-8 text
        ``row_ids.text[row_ids.offsets[k] : row_ids.offsets[k + 1]]``.
    ``.parquet``
        A folder with ``rows.parquet`` and ``columns.parquet``: one row per id, with ``id``, ``factors`` (a
        list of fixed size) and ``bias``; the metadata of both hold ``mean``.

    Existing files are replaced, and files appear once they are complete.

    Args:
        two_factors: see `collapse`; a lower ``rank`` makes smaller files.
        row_ids: ids of the m rows.
        column_ids: ids of the n columns.
        path: the file or folder; missing parent folders are created.

    Raises:
        ValueError: the suffix is unknown; the ids do not match the numbers of rows and columns, or are
            neither integers nor text; or text ids end in NUL, which NumPy would drop.
        FileExistsError: the folder of a ``.parquet`` export holds other files.
        OSError: ``path`` cannot be written.

    Example:
        >>> import tempfile, torch
        >>> ids, two_factors = IdMap(pa.array(["zoë", "ann"])), TwoFactors(torch.ones(2, 3), torch.ones(3, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_factors(two_factors, ids, ids, f"{folder}/model.npz")
        ...     np.load(f"{folder}/model.npz")["row_ids"].tolist()
        ['ann', 'zoë']

    """
    path = Path(path)
    writers = {".npz": _write_npz, ".safetensors": _write_safetensors, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise ValueError(f"{path} must end in one of {', '.join(writers)}; name such a file")
    for name, ids, count in zip(("row", "column"), (row_ids, column_ids), two_factors.shape, strict=True):
        if not isinstance(ids.ids, pa.Array):
            raise ValueError(
                f"`{name}_ids` must be integers or text, got others; convert them to text, such as by str"
            )
        if len(ids) != count:
            raise ValueError(
                f"`{name}_ids` must hold {count} ids, one for each {name} of the model, got {len(ids)}"
            )
    writers[path.suffix](two_factors, row_ids, column_ids, path)


def _write_npz(two_factors: TwoFactors, row_ids: IdMap, column_ids: IdMap, path: Path) -> None:
    ids = {"row_ids": _numpy_ids(row_ids), "column_ids": _numpy_ids(column_ids)}
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **(_arrays(two_factors) | ids))  # type: ignore[arg-type]


def _write_safetensors(two_factors: TwoFactors, row_ids: IdMap, column_ids: IdMap, path: Path) -> None:
    arrays = _arrays(two_factors) | _id_tensors("row_ids", row_ids) | _id_tensors("column_ids", column_ids)
    tensors = {name: torch.tensor(array, device="cpu") for name, array in arrays.items()}
    with atomic_file(path) as partial:
        write_tensors(tensors, partial, {"format": _FORMAT})


def _write_parquet(two_factors: TwoFactors, row_ids: IdMap, column_ids: IdMap, path: Path) -> None:
    import pyarrow.parquet as pq  # here, as it is slow to import

    if path.is_file():
        raise FileExistsError(f"{path} must be a folder, got a file; name another folder or remove the file")
    for entry in sorted(path.iterdir() if path.exists() else ()):
        if not _is_exported(entry):
            name = printable(entry.name)
            raise FileExistsError(
                f"{path} must hold exported factors only, but also holds {name}; name another folder"
            )
    arrays = _arrays(two_factors)
    metadata = {"format": _FORMAT, "mean": repr(two_factors.mean)}
    with atomic_folder(path) as partial:
        for side, ids in (("row", row_ids), ("column", column_ids)):
            table = _table(ids, arrays[f"{side}_factors"], arrays[f"{side}_bias"])
            pq.write_table(table.replace_schema_metadata(metadata), partial / f"{side}s.parquet")


def _is_exported(path: Path) -> bool:
    """Return whether a file was written by an export, judging by its content as well as its name."""
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return path.name in ("rows.parquet", "columns.parquet") and metadata.get(b"format") == _FORMAT.encode()


def _table(ids: IdMap, factors: np.ndarray, bias: np.ndarray) -> pa.Table:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(factors.ravel()), factors.shape[1])
    return pa.table({"id": ids.ids, "factors": lists, "bias": bias})


def _arrays(two_factors: TwoFactors) -> dict[str, np.ndarray]:
    rows, columns = two_factors.shape
    return {
        "row_factors": two_factors.a.numpy(),
        "column_factors": np.ascontiguousarray(two_factors.b.T.numpy()),
        "row_bias": _bias(two_factors.row_bias, rows, two_factors.a),
        "column_bias": _bias(two_factors.column_bias, columns, two_factors.a),
        "mean": np.array([two_factors.mean]),
    }


def _bias(bias: Tensor | None, count: int, like: Tensor) -> np.ndarray:
    array: np.ndarray = (like.new_zeros(count) if bias is None else bias).numpy()
    return array


def _numpy_ids(ids: IdMap) -> np.ndarray:
    if not ids.holds_text:
        array: np.ndarray = ids.ids.to_numpy()
        return array
    if pc.any(pc.ends_with(ids.ids, "\0")).as_py():
        raise ValueError("ids must not end in NUL, which NumPy drops; export to .safetensors or .parquet")
    return np.array(ids.ids.to_pylist(), dtype=np.str_)


def _id_tensors(name: str, ids: IdMap) -> dict[str, np.ndarray]:
    if not ids.holds_text:
        return {name: ids.ids.to_numpy()}
    whole = pa.concat_arrays([ids.ids])  # starts at offset 0 of its buffers
    _, offsets, text = whole.buffers()
    return {
        f"{name}.offsets": np.frombuffer(offsets, np.int64, len(whole) + 1),
        f"{name}.text": np.frombuffer(b"" if text is None else text, np.uint8),
    }
