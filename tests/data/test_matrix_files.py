"""Matrix Market and .npz files: read as SciPy reads whole ones, refused where they contradict themselves."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from numpy.lib import format as npy

from dmf_fast.data import DataError, read_pairs, read_ratings, text_blocks
from tests.data.written_ratings import column_ids, row_ids

BANNER = "%%MatrixMarket matrix "


def entries_of(path: Path) -> list[tuple[Any, Any, float]]:
    ratings = read_ratings(path)
    return sorted(zip(row_ids(ratings), column_ids(ratings), ratings.values.tolist(), strict=True))


def written(path: Path, text: str) -> Path:
    path.write_text(f"{BANNER}{text}")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("coordinate real general\n3 4 2\n1 4 2.5\n3 1 0\n", [(1, 4, 2.5), (3, 1, 0.0)]),
        ("COORDINATE Double General\n%\n% 9 9 9\n\n3 4 1\n\n1 4 2.5", [(1, 4, 2.5)]),
        ("coordinate integer general\r\n3 4 2\r\n1 4 2\r\n3 1 -4\r\n", [(1, 4, 2.0), (3, 1, -4.0)]),
        ("coordinate real general\n 3\t4  2 \n  1\t4   2.5 \n\n3  1 1e2\t\n", [(1, 4, 2.5), (3, 1, 100.0)]),
        ("coordinate real symmetric\n3 3 2\n2 2 1\n3 1 4\n", [(1, 3, 4.0), (2, 2, 1.0), (3, 1, 4.0)]),
        ("coordinate real skew-symmetric\n3 3 1\n3 1 4\n", [(1, 3, -4.0), (3, 1, 4.0)]),
        ("coordinate real hermitian\n3 3 1\n3 1 4\n", [(1, 3, 4.0), (3, 1, 4.0)]),
        ("array real general\n2 2\n1\n2\nnan\n4\n", [(1, 1, 1.0), (2, 1, 2.0), (2, 2, 4.0)]),
        ("array integer symmetric\n2 2\n1\n2\n4\n", [(1, 1, 1.0), (1, 2, 2.0), (2, 1, 2.0), (2, 2, 4.0)]),
        ("array real skew-symmetric\n2 2\n5\n", [(1, 2, -5.0), (2, 1, 5.0)]),
        (f"coordinate real general\n{10**18} 1 1\n{10**18} 1 5\n", [(10**18, 1, 5.0)]),
    ],
)
def test_matrix_market_of_every_form(
    tmp_path: Path, text: str, expected: list[tuple[int, int, float]]
) -> None:
    assert entries_of(written(tmp_path / "a.mtx", text)) == expected


@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric"])
@pytest.mark.parametrize("dense", [False, True])
def test_what_scipy_writes_is_read_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symmetry: str, dense: bool
) -> None:
    random = np.random.default_rng(0).integers(1, 6, (9, 9)).astype(float)
    matrix = {"general": random, "symmetric": random + random.T, "skew-symmetric": random - random.T}[
        symmetry
    ]
    scipy.io.mmwrite(
        tmp_path / "a.mtx", matrix if dense else scipy.sparse.coo_array(matrix), symmetry=symmetry
    )
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 64)

    found = entries_of(tmp_path / "a.mtx")

    # A dense skew-symmetric file leaves its diagonal out, a sparse one of SciPy's its zeros.
    off = {(i, j): matrix[i - 1, j - 1] for i, j, _ in found}
    assert found == sorted((i, j, value) for (i, j), value in off.items())
    assert len(found) >= (matrix != 0).sum()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("coordinate real general\n3 3 1\n1 1 3.\0", "NUL"),
        ("coordinate real general\n3 3 1\n1\0 1 3\n", "NUL"),
        ("coordinate real general\n3 3 3\n1 1 3\n", "holds 1 entries, but its header says 3"),
        ("coordinate real general\n3 3 1\n1 1 3\n2 2 3\n", "holds 2 entries, but its header says 1"),
        ("coordinate real general\n3 3 1\n0 1 3\n", "entry 1 has the row 0, outside 1..3"),
        ("coordinate real general\n3 3 2\n1 1 3\n1 4 3\n", "entry 2 has the column 4, outside 1..3"),
        ("coordinate real general\n3 3 1\n-1 1 3\n", "entry 1 has the row -1"),
        (f"coordinate real general\n3 3 {10**12}\n1 1 3\n", f"header says {10**12}"),
        (f"coordinate real general\n{2**63} 3 1\n1 1 3\n", "at most 9223372036854775807"),
        (f"coordinate real general\n3 3 1\n{2**64} 1 3\n", "invalid value"),
        ("coordinate real general\n3 3 1\n1 1.5 2\n", "invalid value '1.5'"),
        ("coordinate real general\n3 3 1\n1 1 2x\n", "invalid value '2x'"),
        ("coordinate real general\n3 3 1\n1 1 0x10\n", "invalid value '0x10'"),
        ("coordinate real general\n3 3 1\n1 1 2 7\n", "Expected 3 columns, got 4"),
        ("coordinate real general\n3 3 1\n1 1\n", "Expected 3 columns, got 2"),
        ("coordinate real general\n3 3 1\n1,1,2\n", "Expected 3 columns, got 1"),
        ("coordinate real general\n3 3 2\n1 1 2\n% comment\n2 2 2\n", "Expected 3 columns"),
        ("coordinate real general\n3 3\n1 1 2\n", "the line with its size"),
        ("coordinate real general\n-3 3 1\n1 1 2\n", "the line with its size"),
        ("coordinate real general\n% nothing else\n", "no line with its size"),
        ("coordinate real symmetric\n3 2 1\n3 1 2\n", "symmetric, but has 3 rows and 2 columns"),
        ("coordinate real skew-symmetric\n3 3 1\n1 1 2\n", "entry 1 is on the diagonal"),
        ("coordinate real odd\n3 3 1\n1 1 2\n", "symmetry 'odd'"),
        ("coordinate complex general\n3 3 1\n1 1 2 3\n", "field 'complex'"),
        ("list real general\n3 3 1\n1 1 2\n", "form 'list'"),
        ("array real general\n2 2\n1\n2\n3\n", "holds 3 values, but its header says 4"),
        ("array real general\n0 0\n1\n", "holds 1 values, but its header says 0"),
        ("array real general\n0 0\n", "no entries"),
        (f"array real general\n{10**6} {10**6}\n1\n", f"header says {10**12}"),
        (f"array real symmetric\n{10**6} {10**6}\n1\n", "holds 1 values"),
        ("", "its first line must be"),
        ("coordinate real general\n3 3 1\n1 1 \x1b[31m\n", r"\\x1b\[31m"),
    ],
)
def test_matrix_market_that_contradicts_itself_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path / "a.mtx", text)

    for reader in (read_ratings, read_pairs):
        with pytest.raises(DataError, match=words) as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < len(str(path)) + 500


GOOD = {
    "format": "csr",
    "shape": [3, 3],
    "data": np.ones(3),
    "indices": [0, 1, 2],
    "indptr": [0, 1, 2, 3],
}
SPOILT: dict[str, dict[str, Any]] = {
    "starts behind the end": {"indptr": [0, 10**6, 2, 3]},
    "starts that fall": {"indptr": [0, 2, 1, 3]},
    "an index outside": {"indices": [0, 1, 3]},
    "indices of real numbers": {"indices": [0.0, 1.0, 2.0]},
    "a huge shape": {"shape": [10**12, 10**12]},
    "a negative shape": {"shape": [-3, 3]},
    "one dimension": {"shape": [3]},
    "a shape of real numbers": {"shape": [3.0, 3.0]},
    "an unknown format": {"format": "xyz"},
    "a format that is no text": {"format": 7},
    "many formats": {"format": ["csr", "csr"]},
    "no such blocks": {"format": "bsr"},
    "no offsets": {"format": "dia"},
    "no rows": {"format": "coo"},
    "coordinates of one dimension": {"format": "coo", "coords": [0, 1, 2]},
    "values of text": {"data": ["a", "b", "c"]},
    "complex values": {"data": [1j, 1j, 1j]},
    "values that are records": {"data": np.zeros(3, dtype=[("a", "f8")])},
    "values in two dimensions": {"data": np.ones((3, 1))},
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_damaged_npz_is_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **(GOOD | SPOILT[case]))

    with pytest.raises(DataError) as caught:
        read_ratings(path)
    assert str(path) in str(caught.value)


def test_objects_of_an_npz_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **(GOOD | {"data": np.array([print, None, None], dtype=object)}), allow_pickle=True)

    with pytest.raises(DataError, match=r"a\.npz"):
        read_ratings(path)


@pytest.mark.parametrize("shape", [(10**12,), (2**32, 2**32), (-1,), (2,), (), (3, 0)])
@pytest.mark.parametrize("kind", ["<f8", "|O", "|S0", "<U100000000"])
def test_an_array_is_as_long_as_its_header_says(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{name: part for name, part in GOOD.items() if name != "data"})
    with zipfile.ZipFile(path, "a") as archive, archive.open("data.npy", "w") as file:
        npy.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
        file.write(np.ones(3).tobytes())

    with pytest.raises(DataError, match=r"a\.npz is not a sparse matrix .* do not hold an array"):
        read_ratings(path)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "dia", "coo"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_every_format_of_save_npz_is_read(tmp_path: Path, form: str, kind: str) -> None:
    dense = np.diag([1.5, 2.0, 4.0, 0.5])[:, :4] + np.diag([3.0, 3.0, 3.0], k=1)
    matrix = getattr(scipy.sparse, f"{form}_{kind}")(dense)
    scipy.sparse.save_npz(tmp_path / "a.npz", matrix)

    found = {(i, j): value for i, j, value in entries_of(tmp_path / "a.npz") if value}
    assert found == {(int(i), int(j)): dense[i, j] for i, j in zip(*dense.nonzero(), strict=True)}
    assert math.isclose(sum(found.values()), dense.sum())


def test_an_old_format_of_bytes_is_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, **(GOOD | {"format": b"csr"}))
    (tmp_path / "a.npz").write_bytes(file.getvalue())

    assert entries_of(tmp_path / "a.npz") == [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0)]
