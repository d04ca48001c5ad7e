"""The model against dense linear algebra."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import Observations, nn, reference
from dmf_fast.nn import DeepMatrixFactorization

SIZES: list[tuple[tuple[int, int], int, Any]] = [
    ((7, 5), 1, None),
    ((7, 5), 2, None),
    ((5, 7), 3, 2),
    ((6, 6), 4, [9, 3, 5]),
    ((6, 4), 2, 11),
    ((1, 4), 2, 1),
]


def make_model(
    shape: tuple[int, int], depth: int, hidden: Any, *, bias: bool = True, mean: float = 3.5, **options: Any
) -> DeepMatrixFactorization:
    """A model of entries of about one, whose biases are not zero."""
    options = {"dtype": torch.float64, "seed": 0, "init_scale": 1.0} | options
    model = DeepMatrixFactorization(shape, depth, hidden, bias=bias, **options)
    model.mean.fill_(mean)
    generator = torch.Generator().manual_seed(1)
    for side in (model.row_bias, model.column_bias):
        if side is not None:
            side.data = torch.randn(side.shape, generator=generator, dtype=torch.float64).to(side.dtype)
    return model


def dense_predictions(model: DeepMatrixFactorization) -> Tensor:
    dense = reference.chain_product([factor.detach() for factor in model.factors]) + model.mean
    if model.row_bias is not None and model.column_bias is not None:
        dense = dense + model.row_bias.detach()[:, None] + model.column_bias.detach()[None, :]
    return dense


def some_observations(shape: tuple[int, int], *, weighted: bool = False) -> Observations:
    generator = torch.Generator().manual_seed(2)
    rows, columns = (torch.rand(shape, generator=generator) < 0.6).nonzero(as_tuple=True)
    values = torch.randn(len(rows), generator=generator, dtype=torch.float64)
    weights = torch.rand(len(rows), generator=generator, dtype=torch.float64) if weighted else None
    return Observations(rows, columns, values, shape, weights=weights)


@pytest.mark.parametrize(("shape", "depth", "hidden"), SIZES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mean", [0.0, 3.5])
def test_forward_and_loss_are_those_of_the_dense_prediction(
    shape: tuple[int, int], depth: int, hidden: Any, bias: bool, mean: float
) -> None:
    model = make_model(shape, depth, hidden, bias=bias, mean=mean)
    observations = some_observations(shape, weighted=True)
    expected = dense_predictions(model)[observations.rows, observations.columns]
    torch.testing.assert_close(model(observations), expected, rtol=1e-12, atol=1e-12)
    squares = observations.weights * (expected - observations.values) ** 2
    torch.testing.assert_close(model.loss(observations, "sum"), squares.sum())
    torch.testing.assert_close(model.loss(observations), squares.sum() / observations.weights.sum())


def test_gradients_reach_factors_and_biases() -> None:
    model = make_model((7, 5), 3, 4)
    observations = some_observations((7, 5))
    own = [*model.factors, model.row_bias, model.column_bias]
    parameters = [parameter.detach().clone().requires_grad_() for parameter in own]
    *factors, row_bias, column_bias = parameters
    expected = reference.completion_loss(
        factors,
        observations.rows,
        observations.columns,
        observations.values - 3.5,
        None,
        "mean",
        row_bias=row_bias,
        column_bias=column_bias,
    )
    model.loss(observations).backward()
    for parameter, gradient in zip(own, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_biases_and_mean_start_at_zero_and_are_saved() -> None:
    model = DeepMatrixFactorization((4, 3), 2, bias=True)
    assert model.row_bias is not None
    assert model.column_bias is not None
    assert not model.row_bias.any()
    assert not model.column_bias.any()
    assert set(model.state_dict()) == {"factors.0", "factors.1", "row_bias", "column_bias", "mean"}
    assert DeepMatrixFactorization((4, 3), 2).row_bias is None


def test_a_change_of_the_mean_is_noticed_however_it_is_made() -> None:
    model = make_model((4, 3), 2, None, bias=False, mean=0.0)
    observations = some_observations((4, 3))

    def check(changed: DeepMatrixFactorization) -> None:
        expected = dense_predictions(changed)[observations.rows, observations.columns]
        torch.testing.assert_close(changed(observations), expected)

    check(model)
    model.mean.fill_(2.0)
    check(model)
    model.mean.zero_()
    check(model)
    duplicate = copy.deepcopy(model)
    for value in (1.0, 2.0, 3.0, 4.0):
        duplicate.mean.fill_(value)
        check(duplicate)
    model.load_state_dict(duplicate.state_dict())
    check(model)


@pytest.mark.parametrize(
    ("shape", "hidden", "expected"),
    [((6, 4), None, (4, 4, 4, 6)), ((4, 6), 3, (6, 3, 3, 4)), ((4, 6), [2, 5], (6, 2, 5, 4))],
)
def test_hidden_widths(shape: tuple[int, int], hidden: Any, expected: tuple[int, ...]) -> None:
    model = DeepMatrixFactorization(shape, 3, hidden)
    assert model.dims == expected
    assert model.shape == shape
    assert f"hidden={expected[1:-1]}" in repr(model)


@pytest.mark.parametrize(("shape", "depth", "hidden"), SIZES)
def test_predictions_at_pairs_are_the_dense_ones(shape: tuple[int, int], depth: int, hidden: Any) -> None:
    model = make_model(shape, depth, hidden)
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(shape[0], (50,), generator=generator)
    columns = torch.randint(shape[1], (50,), generator=generator)
    predictions = model.predict(rows, columns)
    assert not predictions.requires_grad
    torch.testing.assert_close(predictions, dense_predictions(model)[rows, columns])


def test_predictions_in_chunks_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model((20, 30), 2, 4)
    rows, columns = torch.arange(600) // 30, torch.arange(600) % 30
    at_once = model.predict(rows, columns)
    monkeypatch.setattr(nn, "_CHUNK_NUMBERS", 4 * 7)
    assert torch.equal(model.predict(rows, columns), at_once)


def test_predict_takes_lists_arrays_and_nothing() -> None:
    model = make_model((4, 3), 2, None)
    dense = dense_predictions(model)
    torch.testing.assert_close(model.predict([3, 0], torch.tensor([2, 1]).numpy()), dense[[3, 0], [2, 1]])
    assert model.predict([], []).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_dtypes_predict_in_float32(dtype: torch.dtype) -> None:
    model = make_model((6, 5), 2, None, dtype=dtype)
    predictions = model.predict([0, 5], [4, 1])
    assert predictions.dtype == torch.float32
    expected = dense_predictions(copy.deepcopy(model).double())[[0, 5], [4, 1]]
    torch.testing.assert_close(predictions.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "depth", "hidden"), SIZES)
def test_singular_values_are_those_of_the_dense_product(
    shape: tuple[int, int], depth: int, hidden: Any
) -> None:
    model = make_model(shape, depth, hidden)
    dense = reference.chain_product([factor.detach() for factor in model.factors])
    torch.testing.assert_close(model.product().detach(), dense)
    expected = torch.linalg.svdvals(dense)
    torch.testing.assert_close(model.singular_values(), expected, rtol=1e-12, atol=1e-13)
    assert torch.equal(model.singular_values(1), model.singular_values()[:1])


def test_a_matrix_too_large_to_be_formed_is_predicted_and_decomposed() -> None:
    shape = (300_000, 200_000)  # 480 GB in float64
    model = DeepMatrixFactorization(shape, 3, [3, 4], 2.0, "identity", bias=True, dtype=torch.float32)
    assert model.predict([0, 2, 3], [0, 2, 3]).tolist() == pytest.approx([2.0, 2.0, 0.0])
    assert model.singular_values(5).tolist() == pytest.approx([2.0, 2.0, 2.0, 0.0, 0.0])


def test_the_product_is_differentiable_and_a_tensor_of_its_own() -> None:
    model = make_model((4, 3), 1, None)
    model.product().sum().backward()
    assert torch.equal(model.factors[0].grad, torch.ones(4, 3, dtype=torch.float64))
    assert model.product().data_ptr() != model.factors[0].data_ptr()


def test_balancedness_is_the_largest_gap_between_neighbors() -> None:
    model = make_model((5, 6), 4, [3, 7, 2])
    gaps = [
        float(((outer.T @ outer - inner @ inner.T) ** 2).sum()) ** 0.5
        for inner, outer in pairwise([factor.detach() for factor in model.factors])
    ]
    assert float(model.balancedness()) == pytest.approx(max(gaps))
    assert float(make_model((5, 6), 1, None).balancedness()) == 0
    assert float(make_model((5, 6), 4, None, initialization="balanced").balancedness()) < 1e-14


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"depth": 0}, ValueError, "`depth` must be at least 1"),
        ({"depth": 2.0}, TypeError, "depth"),
        ({"shape": (4,)}, TypeError, "shape"),
        ({"shape": (0, 4)}, ValueError, "shape"),
        ({"hidden": 0}, ValueError, "hidden"),
        ({"hidden": [2, 2]}, ValueError, "1 widths for depth 2"),
        ({"hidden": "2"}, TypeError, "hidden"),
        ({"dtype": torch.int64}, TypeError, "dtype"),
        ({"initialization": "zeros"}, ValueError, "initialization"),
        ({"init_scale": 0.0}, ValueError, "init_scale"),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        DeepMatrixFactorization(**({"shape": (4, 3), "depth": 2} | arguments))


@pytest.mark.parametrize(
    ("rows", "columns", "error", "words"),
    [
        ([0, 4], [0, 0], IndexError, r"`rows\[1\]` must be from 0 to 3, got 4"),
        ([0, 0], [0, -1], IndexError, r"`columns\[1\]` must be from 0 to 2, got -1"),
        ([0, 1], [0], ValueError, "same length"),
        ([[0]], [[0]], ValueError, "one-dimensional"),
        ([0.0], [0], TypeError, "`rows` must be integers"),
        ([True], [0], TypeError, "`rows` must be integers"),
    ],
)
def test_bad_pairs_are_named(rows: Any, columns: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        DeepMatrixFactorization((4, 3), 2).predict(rows, columns)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_a_bad_number_of_singular_values_is_named(k: int) -> None:
    with pytest.raises(ValueError, match="`k` must be from 1"):
        DeepMatrixFactorization((4, 3), 2).singular_values(k)
