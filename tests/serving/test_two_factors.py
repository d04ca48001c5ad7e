"""A chain as two factors: the same predictions, and the closest of lower rank."""

from __future__ import annotations

import pytest
import torch

from dmf_fast import DeepMatrixFactorization
from dmf_fast.serving import TwoFactors, collapse


def drawn_model(
    hidden: tuple[int, ...] = (9, 6, 8), shape: tuple[int, int] = (12, 10), dtype: torch.dtype = torch.float64
) -> DeepMatrixFactorization:
    start = {"initialization": "uniform", "init_scale": 1.0, "seed": 0}
    model = DeepMatrixFactorization(shape, len(hidden) + 1, hidden, bias=True, dtype=dtype, **start)
    generator = torch.Generator().manual_seed(1)
    for bias in (model.row_bias, model.column_bias):
        assert bias is not None
        bias.data.copy_(torch.randn(len(bias), generator=generator))
    model.mean.fill_(3.5)
    return model


def predictions_of(two_factors: TwoFactors) -> torch.Tensor:
    assert two_factors.row_bias is not None
    assert two_factors.column_bias is not None
    biases = two_factors.row_bias[:, None] + two_factors.column_bias
    return two_factors.a @ two_factors.b + biases + two_factors.mean


def predictions_of_model(model: DeepMatrixFactorization) -> torch.Tensor:
    m, n = model.shape
    rows, columns = torch.arange(m).repeat_interleave(n), torch.arange(n).repeat(m)
    return model.predict(rows, columns).view(m, n)


@pytest.mark.parametrize("hidden", [(), (4,), (9, 6, 8), (20, 30), (1,)])
@pytest.mark.parametrize("shape", [(12, 10), (1, 7), (7, 1), (1, 1)])
def test_predictions_are_those_of_the_model(hidden: tuple[int, ...], shape: tuple[int, int]) -> None:
    model = drawn_model(hidden, shape)
    two_factors = collapse(model)
    assert two_factors.shape == shape
    assert two_factors.width == min(hidden, default=min(shape))
    torch.testing.assert_close(predictions_of(two_factors), predictions_of_model(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_become_float32_and_lose_nothing_in_the_products(dtype: torch.dtype) -> None:
    model = drawn_model(dtype=dtype)
    wide = drawn_model(dtype=torch.float64)
    wide.load_state_dict({name: tensor.double() for name, tensor in model.state_dict().items()})
    two_factors = collapse(model)
    assert two_factors.a.dtype == torch.float32
    torch.testing.assert_close(
        predictions_of(two_factors).double(), predictions_of_model(wide), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("rank", [1, 3, 6, 10])
@pytest.mark.parametrize("hidden", [(), (9, 6, 8), (20, 30)])
def test_a_rank_gives_the_closest_product_of_that_rank(rank: int, hidden: tuple[int, ...]) -> None:
    model = drawn_model(hidden)
    product = model.product().detach()
    left, values, right = torch.linalg.svd(product, full_matrices=False)
    two_factors = collapse(model, rank)
    assert two_factors.width == min(rank, *hidden, 10)
    closest = (left[:, :rank] * values[:rank]) @ right[:rank]
    torch.testing.assert_close(two_factors.a @ two_factors.b, closest)


@pytest.mark.parametrize("balanced", [collapse(drawn_model(), 4), collapse(drawn_model()).balanced])
def test_balanced_factors_share_the_singular_values(balanced: TwoFactors) -> None:
    values = drawn_model().singular_values(balanced.width)
    for gram in (balanced.a.T @ balanced.a, balanced.b @ balanced.b.T):
        torch.testing.assert_close(gram, torch.diag(values))


def test_the_model_is_left_as_it_is_and_shares_nothing() -> None:
    model = drawn_model(())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    two_factors = collapse(model)
    for tensor in (two_factors.a, two_factors.row_bias):
        assert tensor is not None
        tensor.fill_(7.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_that_diverged_is_refused() -> None:
    model = drawn_model()
    model.factors[0].data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"must be finite.*diverged"):
        collapse(model)
    with pytest.raises(ValueError, match="`model` must have a finite product"):
        collapse(model, 2)


@pytest.mark.parametrize("rank", [0, 11, -1])
def test_a_rank_out_of_range_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match="`rank` must be at"):
        collapse(drawn_model(), rank)


def test_factors_that_do_not_fit_are_refused() -> None:
    a, b = torch.ones(3, 2), torch.ones(2, 4)
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 4\)"):
        TwoFactors(a, torch.ones(3, 4))
    with pytest.raises(ValueError, match="all at least 1"):
        TwoFactors(torch.ones(3, 0), torch.ones(0, 4))
    with pytest.raises(TypeError, match="float16"):
        TwoFactors(a.half(), b.half())
    with pytest.raises(TypeError, match="`b` must have the dtype of `a`, "):
        TwoFactors(a, b.double())
    with pytest.raises(ValueError, match=r"`row_bias` must have shape \(3,\), got \(4,\)"):
        TwoFactors(a, b, torch.ones(4))
    with pytest.raises(ValueError, match="`column_bias` must be finite"):
        TwoFactors(a, b, None, torch.full((4,), torch.inf))
    with pytest.raises(ValueError, match="`mean` must be finite"):
        TwoFactors(a, b, mean=float("nan"))
