"""Starts: balanced factors, splits that change nothing, and sizes that the decay lets grow."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast import Observations
from dmf_fast.chain import balancedness, chain_product
from dmf_fast.completion import CompletionOptions
from dmf_fast.completion.phases import begin
from dmf_fast.completion.spectral import product_directions
from dmf_fast.completion.starts import Phase, Prepared
from dmf_fast.evaluation import Biases
from dmf_fast.initialization import initialize
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.training import FitOptions, fit
from tests.completion.ratings import ratings

OPTIONS = CompletionOptions(hidden=8)


def prepared(options: CompletionOptions = OPTIONS) -> Prepared:
    train, validation = ratings().to(dtype=torch.float64).split(0.1, seed=0)
    return Prepared.of(train, validation, options, Biases.fit(train))


@given(st.integers(0, 2**20), st.integers(2, 4), st.integers(2, 6))
def test_a_product_splits_into_balanced_factors_of_any_depth(seed: int, depth: int, deeper: int) -> None:
    part = prepared()
    start = begin(Phase(depth, "spectral"), part, OPTIONS)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in start.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    before = start.model(part.train).detach()

    split = begin(Phase(deeper, "product"), part, OPTIONS, start)

    assert len(split.model.factors) == deeper
    torch.testing.assert_close(split.model(part.train).detach(), before, rtol=1e-6, atol=1e-6)
    assert (
        balancedness(list(split.model.factors)).item()
        < 1e-8 * chain_product(list(start.model.factors)).norm()
    )
    assert start.model.factors[0].data_ptr() != split.model.factors[0].data_ptr()


def test_the_directions_of_a_product_are_its_singular_vectors() -> None:
    factors = [torch.randn(shape, dtype=torch.float64) for shape in ((4, 9), (4, 4), (7, 4))]
    found = product_directions(DeepMatrixFactorization.of_factors(factors))
    torch.testing.assert_close(found.left @ found.values.diag() @ found.right.T, chain_product(factors))
    assert (found.values.diff() <= 0).all()


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_spectral_start_predicts_what_the_biases_do(depth: int) -> None:
    part = prepared()
    assert part.coordinates is not None
    start = begin(Phase(depth, "spectral"), part, OPTIONS)
    assert len(start.model.factors) == depth
    difference = start.model(part.train) - part.coordinates.without_factors()(part.train)
    # From depth 3 on it is larger, so that it survives the decay.
    assert difference.square().mean().sqrt() < (0.5 if depth > 2 else 1e-3) * part.train.values.std()


def test_the_biases_of_a_start_are_the_fitted_ones() -> None:
    part = prepared()
    assert part.coordinates is not None
    rows, columns = (side.numpy() for side in part.train.coordinates())
    expected = torch.from_numpy(Biases.fit(part.train).predict(rows, columns))
    torch.testing.assert_close(part.coordinates.without_factors()(part.train).detach(), expected)


@pytest.mark.parametrize("center", [True, False])
def test_without_centering_the_mean_is_in_the_biases(center: bool) -> None:
    options = CompletionOptions(hidden=8, center=center)
    part = prepared(options)
    assert part.coordinates is not None
    model = part.coordinates.without_factors()
    assert (model.mean.item() != 0) == center
    rows, columns = (side.numpy() for side in part.train.coordinates())
    torch.testing.assert_close(
        model(part.train).detach(), torch.from_numpy(Biases.fit(part.train).predict(rows, columns))
    )


@pytest.mark.parametrize("depth", [3, 4])
def test_a_deep_spectral_start_survives_its_decay(depth: int) -> None:
    part = prepared()
    start = begin(Phase(depth, "spectral"), part, OPTIONS)
    result = fit(start.model, part.train, start.optimizer, FitOptions(steps=200))
    assert result.left_start


def test_constant_values_leave_nothing_to_start_from() -> None:
    train = Observations([0, 1, 2], [0, 1, 0], [2.0, 2.0, 2.0], (3, 2))
    part = Prepared.of(train, None, OPTIONS, Biases.fit(train))
    start = begin(Phase(2, "spectral"), part, OPTIONS)
    assert all(torch.isfinite(parameter).all() for parameter in start.model.parameters())


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_spectral_start_has_sizes_by_the_squares_of_the_gradient(depth: int) -> None:
    """A ten-thousandth of the reference; from depth 3 on 3% of it, and twice what survives the decay."""
    part = prepared()
    assert part.directions is not None
    above_noise = (part.directions.values[:8] / part.directions.noise).clamp(max=10)
    size = 1e-4
    if depth > 2:
        pull = 1.5 * OPTIONS.weight_decay * part.unit.noise / part.directions.noise
        size = 0.03 + 2 * min(1.0, pull ** (depth / (depth - 2)))
    model = begin(Phase(depth, "spectral"), part, OPTIONS).model
    product = chain_product([factor.detach() for factor in model.factors])
    expected = size * part.unit.reference * above_noise**2
    torch.testing.assert_close(torch.linalg.svdvals(product)[:8], expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("start", ["gaussian", "balanced", "orthogonal"])
@pytest.mark.parametrize(("given", "scale"), [(None, 2e-5), (0.5, 0.5)])
def test_other_starts_are_those_of_the_paper_of_the_size_of_an_entry(
    start: str, given: float | None, scale: float
) -> None:
    options = CompletionOptions(hidden=8, depth=3, initialization=start, init_scale=given, seed=3)  # type: ignore[arg-type]
    part = prepared(options)
    found = begin(Phase(3, start), part, options).model.factors
    # 40 rows and 30 columns: a product of the size s √40 has entries of about s.
    expected = initialize(start, (30, 8, 8, 40), scale * 40**0.5, seed=3, dtype=torch.float64)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.detach(), other)
