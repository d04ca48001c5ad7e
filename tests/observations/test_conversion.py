"""Observations out of SciPy's sparse matrices, dense matrices and torch's sparse tensors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

from dmf_fast import Observations

DENSE = np.array([[0.0, 1.5, 0.0], [2.5, 0.0, 3.5]])
PAIRS = {(0, 1): 1.5, (1, 0): 2.5, (1, 2): 3.5}


def as_dictionary(observations: Observations) -> dict[tuple[int, int], float]:
    pairs = zip(observations.rows.tolist(), observations.columns.tolist(), strict=True)
    return dict(zip(pairs, observations.values.tolist(), strict=True))


@pytest.mark.parametrize("format_name", ["coo", "csr", "csc", "bsr", "lil", "dok", "dia"])
@pytest.mark.parametrize("container", [scipy.sparse.coo_array, scipy.sparse.coo_matrix])
def test_any_scipy_format(container: Any, format_name: str) -> None:
    observations = Observations.from_scipy(container(DENSE).asformat(format_name))
    assert as_dictionary(observations) == PAIRS
    assert observations.shape == (2, 3)
    assert observations.dtype == torch.float64


@pytest.mark.parametrize(
    "container", [scipy.sparse.csr_array, scipy.sparse.csc_array, scipy.sparse.coo_array]
)
def test_stored_zeros_are_observations(container: Any) -> None:
    matrix = container(DENSE)
    matrix.data[0] = 0.0
    assert len(Observations.from_scipy(matrix)) == 3


def test_scipy_duplicates_follow_the_policy() -> None:
    matrix = scipy.sparse.coo_array(([1, 2], ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(ValueError, match="must not repeat a pair"):
        Observations.from_scipy(matrix)
    observations = Observations.from_scipy(matrix, duplicates="sum", dtype=torch.float16)
    assert as_dictionary(observations) == {(0, 1): 3.0}
    assert observations.dtype == torch.float16


def test_scipy_matrices_are_not_changed() -> None:
    matrix = scipy.sparse.coo_array(DENSE)
    Observations.from_scipy(matrix).values.fill_(9)
    np.testing.assert_array_equal(matrix.toarray(), DENSE)


@pytest.mark.parametrize("as_given", [np.asarray, torch.from_numpy, np.ndarray.tolist, np.asfortranarray])
def test_nan_marks_the_holes_of_a_dense_matrix(as_given: Any) -> None:
    observations = Observations.from_dense(as_given(np.where(DENSE == 0, np.nan, DENSE)))
    assert as_dictionary(observations) == PAIRS
    assert observations.shape == (2, 3)


@pytest.mark.parametrize("as_array", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("as_mask", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_a_mask_marks_what_is_observed(as_array: Any, as_mask: Any) -> None:
    numbers = np.where(DENSE == 0, np.nan, DENSE)
    assert as_dictionary(Observations.from_dense(as_array(numbers), as_mask(DENSE != 0))) == PAIRS


def test_dense_dtypes() -> None:
    assert Observations.from_dense([[1.0, 2.0]]).dtype == torch.get_default_dtype()
    assert Observations.from_dense(np.array([[1, 2]])).dtype == torch.float32
    halves = Observations.from_dense(torch.tensor([[1.0, float("nan")]], dtype=torch.bfloat16))
    assert (halves.dtype, halves.values.tolist()) == (torch.bfloat16, [1.0])
    assert Observations.from_dense(DENSE, dtype=torch.float16).dtype == torch.float16


def test_dense_integers_are_observed_everywhere_in_row_order() -> None:
    observations = Observations.from_dense(torch.arange(6).reshape(2, 3).T)
    assert observations.rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert observations.values.tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]


@pytest.mark.parametrize(
    ("array", "mask", "error", "message"),
    [
        ([1.0, 2.0], None, ValueError, "`array` must have two dimensions"),
        ([[1.0, float("nan")]], [[True, True]], ValueError, r"values\[1\] = nan"),
        ([[1.0, float("inf")]], None, ValueError, r"values\[1\] = inf"),
        ([[1.0, 2.0]], [[1, 0]], TypeError, "`mask` must hold booleans"),
        ([[1.0, 2.0]], [[True], [False]], ValueError, r"`mask` must have the shape of `array`, \(1, 2\)"),
        ([[True, False]], None, TypeError, "real numbers, got bool"),
        ([[1j, 2.0]], None, TypeError, "real numbers, got complex"),
        (np.ma.array([[1.0, 2.0]], mask=[[True, False]]), None, TypeError, "masked array"),
        (scipy.sparse.eye_array(2), None, TypeError, "from_scipy"),
    ],
)
def test_bad_dense_matrices_are_refused(array: Any, mask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Observations.from_dense(array, mask)


def sparse_tensors() -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its compressed layouts a beta
        dense = torch.from_numpy(DENSE)
        return {"coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "csc": dense.to_sparse_csc()}


@pytest.mark.parametrize("name", ["coo", "csr", "csc"])
def test_torch_sparse_layouts(name: str) -> None:
    observations = Observations.from_torch_sparse(sparse_tensors()[name].requires_grad_())
    assert as_dictionary(observations) == PAIRS
    assert (observations.shape, observations.dtype) == ((2, 3), torch.float64)


def test_torch_duplicates_and_stored_zeros() -> None:
    tensor = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 0]], [1.0, 2.0, 0.0], (2, 2), check_invariants=True)
    with pytest.raises(ValueError, match="must not repeat a pair"):
        Observations.from_torch_sparse(tensor)
    assert as_dictionary(Observations.from_torch_sparse(tensor, duplicates="sum")) == {
        (0, 1): 3.0,
        (1, 0): 0.0,
    }


@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (torch.eye(2), TypeError, "`tensor` must be a sparse COO, CSR or CSC tensor, got torch.strided"),
        (DENSE, TypeError, "got ndarray"),
        (torch.ones(2, 2, 2).to_sparse(), ValueError, "two dimensions"),
        (torch.ones(2, 2).to_sparse(1), ValueError, "two sparse dimensions"),
    ],
)
def test_bad_sparse_tensors_are_refused(tensor: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Observations.from_torch_sparse(tensor)


@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        (DENSE, TypeError, "use Observations.from_dense"),
        (scipy.sparse.coo_array(DENSE != 0), TypeError, "real numbers, got bool"),
    ],
)
def test_bad_scipy_matrices_are_refused(matrix: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Observations.from_scipy(matrix)


@pytest.mark.parametrize("starts", [[0, 2**40, 2], [0, 2, 1], [1, 1, 2], [0, 1, 9], [0, -1, 2], [0.0, 1, 2]])
@pytest.mark.parametrize("make", [torch.sparse_csr_tensor, torch.sparse_csc_tensor])
def test_a_sparse_tensor_with_damaged_starts_is_refused(make: Any, starts: list[int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = make(starts, [0, 1], [1.0, 2.0], (2, 2), check_invariants=False)
    with pytest.raises(ValueError, match="`tensor` must be consistent"):
        Observations.from_torch_sparse(tensor)


SPOILT: dict[str, tuple[str, dict[str, Any]]] = {
    "starts that point behind the end": ("csr", {"indptr": [0, 10**6, 2]}),
    "starts that fall": ("csr", {"indptr": [0, 3, 2]}),
    "starts that do not begin at 0": ("csc", {"indptr": [1, 1, 2, 3]}),
    "starts below 0": ("csr", {"indptr": [0, -5, 3]}),
    "starts beyond int64": ("csr", {"indptr": np.array([0, 2**63, 3], dtype=np.uint64)}),
    "starts for other lines": ("csr", {"indptr": [0, 3]}),
    "starts that are no integers": ("csr", {"indptr": [0.0, 1.0, 3.0]}),
    "starts that end too late": ("csc", {"indptr": [0, 1, 2, 4]}),
    "an index beyond the shape": ("csr", {"indices": [1, 0, 3]}),
    "an index below 0": ("csc", {"indices": [1, -1, 0]}),
    "indices that are no integers": ("csr", {"indices": [1.0, 0.0, 2.0]}),
    "indices in two dimensions": ("csr", {"indices": [[1, 0, 2]]}),
    "values that are objects": ("csr", {"data": [None, None, None]}),
    "fewer values than indices": ("csr", {"data": [1.0]}),
    "values in two dimensions": ("csr", {"data": [[1.0], [2.0], [3.0]]}),
    "a row beyond the shape": ("coo", {"coords": ([0, 1, 2], [1, 0, 2])}),
    "fewer columns than rows": ("coo", {"coords": ([0, 1, 1], [1, 0])}),
    "blocks that do not fill the shape": ("bsr", {"data": np.ones((1, 3, 2))}),
    "blocks without a size": ("bsr", {"data": np.ones((1, 0, 3))}),
    "a block beyond the shape": ("bsr", {"indices": [1]}),
    "more blocks than there are": ("bsr", {"indptr": [0, 99]}),
    "flat blocks": ("bsr", {"data": np.ones(6)}),
    "one offset for two diagonals": ("dia", {"data": np.ones((2, 3)), "offsets": [0]}),
    "two equal offsets": ("dia", {"data": np.ones((2, 3)), "offsets": [0, 0]}),
    "offsets that are no integers": ("dia", {"data": np.ones((1, 3)), "offsets": [0.5]}),
    "a flat diagonal": ("dia", {"data": np.ones(3), "offsets": [0]}),
    "lists of other lengths": ("lil", {"data": np.array([[1.0], [1.0] * 9], dtype=object)}),
    "a list too few": ("lil", {"rows": np.array([[1]], dtype=object)}),
    "lists of indices beyond the shape": ("lil", {"rows": np.array([[1], [0, 99]], dtype=object)}),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_sparse_matrix_with_damaged_parts_is_refused_before_they_are_followed(case: str) -> None:
    form, parts = SPOILT[case]
    block = {"blocksize": (2, 3)} if form == "bsr" else {}
    matrix = getattr(scipy.sparse.coo_array(DENSE), f"to{form}")(**block)
    for name, part in parts.items():
        setattr(matrix, name, tuple(map(np.array, part)) if name == "coords" else np.array(part))

    with pytest.raises(ValueError, match="`matrix` must be consistent"):
        Observations.from_scipy(matrix)


def test_offsets_of_diagonals_outside_the_shape_hold_nothing() -> None:
    matrix = scipy.sparse.dia_array((np.ones((3, 3)), [0, -30, 30]), shape=(2, 3))
    assert as_dictionary(Observations.from_scipy(matrix)) == {(0, 0): 1.0, (1, 1): 1.0}


def test_room_for_more_entries_is_no_fault_and_holds_none() -> None:
    matrix = scipy.sparse.csr_array(DENSE)
    matrix.data = np.append(matrix.data, [9.0, 9.0])
    matrix.indices = np.append(matrix.indices, [77, 78])
    assert as_dictionary(Observations.from_scipy(matrix)) == PAIRS
