"""Linear measurements and their loss against sums written out, in float64; and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast.chain import chain_product
from dmf_fast.sensing import Measurements, gaussian_measurements, sensing_loss, sensing_product

SHAPE, COUNT = (4, 3), 5


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def measurements() -> Measurements:
    return Measurements(draw(COUNT, *SHAPE), draw(COUNT, seed=1))


def measured(product: Tensor, measurements: Measurements) -> Tensor:
    """The oracle."""
    return torch.einsum("kij,...ij->...k", measurements.matrices, product)


@pytest.mark.parametrize("batch", [(), (1,), (6,), (2, 3), (0,)])
def test_products_are_measured_one_by_one_or_in_batches(
    batch: tuple[int, ...], measurements: Measurements
) -> None:
    product = draw(*batch, *SHAPE, seed=2)

    torch.testing.assert_close(sensing_product(product, measurements), measured(product, measurements))


@pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_reduces_the_squared_residuals(
    batch: tuple[int, ...], reduction: Any, measurements: Measurements
) -> None:
    product = draw(*batch, *SHAPE, seed=2)
    squares = (measured(product, measurements) - measurements.values) ** 2

    expected = squares.mean(-1) if reduction == "mean" else squares.sum(-1)
    torch.testing.assert_close(sensing_loss(product, measurements, reduction), expected)


def test_a_product_need_not_be_contiguous(measurements: Measurements) -> None:
    product = draw(*SHAPE[::-1], seed=2).T

    torch.testing.assert_close(sensing_product(product, measurements), measured(product, measurements))


@pytest.mark.parametrize("batch", [(), (2,)])
def test_both_are_differentiable_twice(batch: tuple[int, ...], measurements: Measurements) -> None:
    product = draw(*batch, *SHAPE, seed=2).requires_grad_()

    for function in (sensing_product, sensing_loss):
        assert torch.autograd.gradcheck(lambda w, f=function: f(w, measurements), product)
        assert torch.autograd.gradgradcheck(lambda w, f=function: f(w, measurements), product)


def test_the_loss_is_differentiable_through_a_chain(measurements: Measurements) -> None:
    factors = [draw(2, 3, seed=3).requires_grad_(), draw(4, 2, seed=4).requires_grad_()]

    assert torch.autograd.gradcheck(lambda *chain: sensing_loss(chain_product(chain), measurements), factors)


def test_the_loss_compiles_whole(measurements: Measurements) -> None:
    compiled = torch.compile(sensing_loss, backend="aot_eager", fullgraph=True)
    product = draw(*SHAPE, seed=2).requires_grad_()

    gradients = [
        torch.autograd.grad(loss(product, measurements), product)[0] for loss in (compiled, sensing_loss)
    ]
    torch.testing.assert_close(*gradients)


def test_float32_stays_float32() -> None:
    measurements = Measurements(draw(COUNT, *SHAPE, dtype=torch.float32), torch.zeros(COUNT))

    assert sensing_product(torch.ones(SHAPE), measurements).dtype == torch.float32
    assert sensing_loss(torch.ones(SHAPE), measurements).dtype == torch.float32


def test_measurements_know_their_sizes_and_keep_no_gradient() -> None:
    measurements = Measurements(draw(COUNT, *SHAPE[::-1]).mT.requires_grad_(), draw(COUNT, seed=1))

    assert (measurements.shape, len(measurements), measurements.dtype) == (SHAPE, COUNT, torch.float64)
    assert measurements.device == torch.device("cpu")
    assert measurements.matrices.is_contiguous()
    assert not measurements.matrices.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gaussian_measurements_are_those_of_the_truth(dtype: torch.dtype) -> None:
    truth = draw(*SHAPE, dtype=dtype)
    measurements = gaussian_measurements(truth, 50, seed=3)

    assert measurements.dtype == dtype
    assert float(sensing_loss(truth, measurements)) <= 100 * torch.finfo(dtype).eps ** 2


def test_the_mean_loss_estimates_the_mean_squared_error_of_an_entry() -> None:
    truth, product = draw(20, 30, seed=1), draw(20, 30, seed=2)
    measurements = gaussian_measurements(truth, 20_000, seed=3)

    assert float(measurements.matrices.std()) == pytest.approx(1 / math.sqrt(600), rel=1e-2)
    assert float(sensing_loss(product, measurements)) == pytest.approx(
        float((product - truth).square().mean()), rel=0.05
    )


def test_noise_has_the_given_size() -> None:
    truth = draw(*SHAPE)
    noisy = gaussian_measurements(truth, 10_000, seed=3, noise=0.5)

    assert float(sensing_loss(truth, noisy)) == pytest.approx(0.25, rel=0.05)
    assert torch.equal(noisy.matrices, gaussian_measurements(truth, 10_000, seed=3).matrices)


def test_a_seed_decides_and_dtypes_share_the_draw() -> None:
    truth = draw(*SHAPE)
    first, same, other = (gaussian_measurements(truth, COUNT, seed=seed) for seed in (0, 0, 1))
    single = gaussian_measurements(truth.float(), COUNT, seed=0)

    assert torch.equal(first.matrices, same.matrices)
    assert not torch.equal(first.matrices, other.matrices)
    assert torch.equal(single.matrices, first.matrices.float())


@pytest.mark.parametrize(
    ("matrices", "values", "error", "message"),
    [
        ([[1.0]], torch.ones(1), TypeError, "`matrices` must be a torch.Tensor, got list"),
        (
            torch.ones(1, 2, 2).long(),
            torch.ones(1),
            TypeError,
            "`matrices` must be float32 or float64, got torch.int64",
        ),
        (
            torch.ones(1, 2, 2),
            torch.ones(1).half(),
            TypeError,
            "`values` must be float32 or float64, got torch.float16",
        ),
        (
            torch.ones(1, 2, 2),
            torch.ones(1).double(),
            TypeError,
            "`values` must have the dtype of `matrices`, ",
        ),
        (
            torch.ones(2, 2),
            torch.ones(2),
            ValueError,
            r"`matrices` must have shape \(k, m, n\) .*, got shape \(2, 2\)",
        ),
        (torch.ones(0, 2, 2), torch.ones(0), ValueError, "k, m and n at least 1"),
        (
            torch.ones(3, 2, 2),
            torch.ones(2),
            ValueError,
            r"`values` must have shape \(3,\).*, got shape \(2,\)",
        ),
        (torch.ones(1, 2, 2), torch.tensor([math.nan]), ValueError, "`values` must be finite"),
        (torch.full((1, 2, 2), math.inf), torch.ones(1), ValueError, "`matrices` must be finite"),
    ],
)
def test_measurements_that_make_no_sense_are_refused(
    matrices: Any, values: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Measurements(matrices, values)


def test_devices_must_agree() -> None:
    # Numbers on "meta" cannot be looked at, so the device is checked where no number is: of the product.
    measurements = Measurements(torch.ones(1, 2, 2), torch.ones(1))
    with pytest.raises(ValueError, match="`product` must be on the device of `measurements`, cpu, got"):
        sensing_product(torch.ones(2, 2, device="meta"), measurements)


@pytest.mark.parametrize(
    ("product", "error", "message"),
    [
        ([[1.0]], TypeError, "`product` must be a torch.Tensor, got list"),
        (
            torch.ones(SHAPE),
            TypeError,
            "`product` must have the dtype of `measurements`, torch.float64, got torch.float32",
        ),
        (draw(*SHAPE[::-1]), ValueError, r"\(m, n\) = \(4, 3\), got shape \(3, 4\)"),
        (draw(3), ValueError, r"\(m, n\) = \(4, 3\), got shape \(3,\)"),
    ],
)
def test_products_that_do_not_fit_are_refused(
    product: Any, error: type[Exception], message: str, measurements: Measurements
) -> None:
    for function in (sensing_product, sensing_loss):
        with pytest.raises(error, match=message):
            function(product, measurements)


def test_an_unknown_reduction_is_refused(measurements: Measurements) -> None:
    with pytest.raises(ValueError, match="`reduction` must be one of mean, sum, got 'none'"):
        sensing_loss(draw(*SHAPE), measurements, "none")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("truth", "options", "message"),
    [
        (torch.ones(3), {}, r"`truth` must be a matrix \(m, n\) with entries, got shape \(3,\)"),
        (torch.ones(2, 2), {"count": 0}, "`count` must be at least 1, got 0"),
        (torch.ones(2, 2), {"noise": -1.0}, "`noise` must be at least 0, got -"),
        (torch.full((2, 2), math.nan), {}, "`truth` must be finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(truth: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian_measurements(truth, **{"count": 3, "seed": 0} | options)
