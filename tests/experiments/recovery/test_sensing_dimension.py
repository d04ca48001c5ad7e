"""The statistical dimension against a numerical integral, and against its definition by draws."""

from __future__ import annotations

import numpy as np
import pytest

from dmf_fast.experiments.recovery.sensing_dimension import statistical_dimension


def by_numerical_integral(size: int, rank: int) -> float:
    """The formula of Amelunxen et al. on a grid of thresholds, with the midpoint rule in u = 2 sin θ."""
    angles = (np.arange(2_000) + 0.5) / 2_000 * np.pi / 2
    singular_values, weights = 2 * np.sin(angles), 4 * np.cos(angles) ** 2 / np.pi * (np.pi / 2 / 2_000)
    assert weights.sum() == pytest.approx(1.0)
    share, thresholds = rank / size, np.linspace(0, 2, 2_001)[:, None]
    beyond = (np.maximum(singular_values - thresholds, 0.0) ** 2 * weights).sum(1)
    dimensions = share + (1 - share) * (share * (1 + thresholds[:, 0] ** 2) + (1 - share) * beyond)
    return float(size**2 * dimensions.min())


def by_draws(size: int, rank: int, draws: int) -> tuple[float, float]:
    """The mean, and its standard error, of the squared distance of a Gaussian matrix to the polar cone.

    That is spanned by the subdifferential of the nuclear norm: on the matrix's own singular vectors it is the
    identity, off both their spans anything of operator norm 1.
    """
    random, thresholds = np.random.default_rng(0), np.linspace(0, 2 * np.sqrt(size), 400)[:, None]
    distances = []
    for _ in range(draws):
        drawn = random.standard_normal((size, size))
        beyond = np.maximum(np.linalg.svd(drawn[rank:, rank:], compute_uv=False) - thresholds, 0.0)
        on_vectors = drawn[:rank, :rank] - thresholds[:, :, None] * np.eye(rank)
        free = (drawn[:rank, rank:] ** 2).sum() + (drawn[rank:, :rank] ** 2).sum()
        distances.append(float((free + (on_vectors**2).sum((1, 2)) + (beyond**2).sum(1)).min()))
    return float(np.mean(distances)), float(np.std(distances) / np.sqrt(draws))


@pytest.mark.parametrize(("size", "rank"), [(50, 3), (100, 5), (20, 1), (40, 30)])
def test_it_is_the_formula(size: int, rank: int) -> None:
    assert statistical_dimension(size, rank) == pytest.approx(by_numerical_integral(size, rank), rel=1e-5)


@pytest.mark.parametrize(("size", "rank"), [(50, 3), (20, 1)])
def test_it_is_near_the_definition(size: int, rank: int) -> None:
    mean, standard_error = by_draws(size, rank, draws=100)
    assert statistical_dimension(size, rank) == pytest.approx(mean, abs=4 * standard_error)


def test_it_is_between_the_degrees_of_freedom_and_all_entries() -> None:
    dimensions = [statistical_dimension(30, rank) for rank in range(1, 30)]
    assert dimensions == sorted(dimensions)
    for rank, dimension in enumerate(dimensions, start=1):
        assert rank * (60 - rank) < dimension < 900
