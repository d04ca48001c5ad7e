"""Tables and matrices in memory, described in JSON: data frames, columns, sparse and dense matrices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import scipy.sparse
import torch

from dmf_fast import Observations
from dmf_fast.data import as_ratings
from tests.torture.fuzzing import NotAnInput, Target
from tests.torture.mutation import Files

_INPUT = "input.call"
_COLUMNS = {"user": [1, 2, 2, 5], "item": ["a", "b", "a", "c"], "rating": [3.5, 1, 2, 4]}
_TABLES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pandas": pd.DataFrame,
    "pandas objects": lambda columns: pd.DataFrame(columns, dtype=object),
    "pandas index": lambda columns: pd.DataFrame(columns).set_index(list(columns)[:1]),
    "polars": lambda columns: pl.DataFrame(columns, strict=False),
    "arrow": pa.table,
    "batch": pa.RecordBatch.from_pydict,
    "tuple": lambda columns: tuple(columns.values()),
    "arrays": lambda columns: tuple(np.array(column) for column in columns.values()),
    "dict": dict,
    "matrix": lambda columns: np.array(list(columns.values())),
    "masked": lambda columns: np.ma.masked_invalid(np.array(list(columns.values()), dtype=float)),
}
_CSR = {"format": "csr", "shape": [3, 4], "data": [1.0, 2, 3], "indices": [0, 1, 3], "indptr": [0, 1, 2, 3]}
_COO = {"format": "coo", "shape": [3, 4], "data": [1.0, 2, 3], "row": [0, 1, 2], "col": [0, 1, 3]}
_BSR = {"format": "bsr", "shape": [2, 4], "data": [[[1.0, 2], [3, 4]]], "indices": [1], "indptr": [0, 1]}
_DIA = {"format": "dia", "shape": [3, 3], "data": [[1.0, 2, 3]], "offsets": [0]}
_MATRICES = [_CSR, _CSR | {"format": "csc", "shape": [4, 3]}, _COO, _BSR, _DIA]
_MEMBERS = ("data", "indices", "indptr", "row", "col", "offsets")


def read_table(folder: Path) -> object:
    """Read a described table with `as_ratings`."""
    described = _described(folder)
    try:
        table = _TABLES[described["container"]](described["columns"])
    except Exception as error:
        raise NotAnInput from error
    as_ratings(table).observations(duplicates="mean").layout()
    return None


def read_sparse(folder: Path) -> object:
    """Give a matrix of SciPy, whose members are put into it unchecked, to all that takes one."""
    matrix = _sparse(_described(folder))
    Observations.from_scipy(matrix, duplicates="first").layout()
    as_ratings(matrix).observations(duplicates="first").layout()
    return None


def read_torch(folder: Path) -> object:
    """Give a sparse tensor, whose members are not checked by torch, to `Observations`."""
    described = _described(folder)
    try:
        data, indices, indptr = (torch.tensor(described[name]) for name in ("data", "indices", "indptr"))
        shape = tuple(described["shape"])
        if described["format"] == "csr":
            tensor = torch.sparse_csr_tensor(indptr, indices, data, shape, check_invariants=False)
        elif described["format"] == "csc":
            tensor = torch.sparse_csc_tensor(indptr, indices, data, shape, check_invariants=False)
        else:
            places = torch.stack([indices, torch.arange(len(indices))])
            tensor = torch.sparse_coo_tensor(places, data, shape, check_invariants=False)
    except Exception as error:
        raise NotAnInput from error
    Observations.from_torch_sparse(tensor, duplicates="first").layout()
    return None


def read_entries(folder: Path) -> object:
    """Give described arguments to `Observations`."""
    described = _described(folder)
    try:
        arguments = [described[name] for name in ("rows", "columns", "values", "shape")]
        shape = arguments.pop()
        if described.get("kind") != "lists":
            arguments = [np.array(argument) for argument in arguments]
        keywords = {name: described[name] for name in ("weights", "duplicates") if name in described}
    except Exception as error:
        raise NotAnInput from error
    Observations(*arguments, shape if shape is None else tuple(shape), **keywords).layout()
    return None


def targets() -> Iterator[Target]:
    """Yield a target for every kind of what is in memory."""
    raised = (ValueError, TypeError, IndexError, MemoryError)
    for name, seeds, use in (
        ("tables in memory", _tables, read_table),
        ("sparse matrices in memory", lambda _: [_input(one) for one in _MATRICES], read_sparse),
        ("sparse tensors in memory", _tensors, read_torch),
        ("entries in memory", _entries, read_entries),
    ):
        yield Target(name, seeds, use, raised, names_file=False)


def _tables(_: Path) -> list[Files]:
    readable = set(_TABLES) - {"pandas index", "dict", "matrix", "masked"}
    inputs = [_input({"container": name, "columns": _COLUMNS}) for name in sorted(readable)]
    numbers = {name: [1.0, None, 2.0, 0.5] for name in _COLUMNS}
    matrices = [_input({"container": name, "columns": numbers}) for name in ("masked",)]
    return inputs + matrices


def _tensors(_: Path) -> list[Files]:
    return [
        _input(_CSR),
        _input(_CSR | {"format": "csc", "shape": [4, 3]}),
        _input(_CSR | {"format": "coo", "indices": [0, 2, 1]}),
    ]


def _entries(_: Path) -> list[Files]:
    entries = {"rows": [0, 1, 2], "columns": [2, 0, 1], "values": [1.5, 2.0, 3.0], "shape": [3, 4]}
    more = entries | {"kind": "lists", "weights": [1.0, 0.5, 2.0], "duplicates": "mean"}
    return [_input(entries), _input(more), _input(entries | {"shape": None})]


def _input(described: dict[str, Any]) -> Files:
    return {_INPUT: json.dumps(described).encode()}


def _described(folder: Path) -> dict[str, Any]:
    try:
        described = json.loads((folder / _INPUT).read_bytes())
    except (OSError, ValueError) as error:
        raise NotAnInput from error
    if not isinstance(described, dict):
        raise NotAnInput
    return described


def _sparse(described: dict[str, Any]) -> Any:
    """Return a matrix with these members, which SciPy's own checks have not seen."""
    try:
        kind = getattr(scipy.sparse, f"{described['format']}_array")
        matrix = kind((1, 1))
        shape = tuple(described["shape"])
        if len(shape) != 2 or not all(isinstance(size, int) and 0 <= size < 2**62 for size in shape):
            raise NotAnInput
        matrix._shape = shape
        for name in _MEMBERS:
            if name in described:
                array = np.array(described[name])
                if name in ("row", "col"):
                    coords = list(matrix.coords)
                    coords[name == "col"] = array
                    matrix.coords = tuple(coords)
                else:
                    setattr(matrix, name, array)
        return matrix
    except Exception as error:
        raise NotAnInput from error
