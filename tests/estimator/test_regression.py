"""The change of rows by new ratings, compared with dense ridge regression in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dmf_fast import Observations
from dmf_fast.estimator import regression
from dmf_fast.estimator.regression import gaussian_prior, posterior_changes

Floats = NDArray[np.float64]


def problem(
    rows: int = 7, columns: int = 20, width: int = 3, count: int = 50, seed: int = 0
) -> dict[str, Floats]:
    random = np.random.default_rng(seed)
    places = random.choice(rows * columns, count, replace=False)
    return {
        "rows": places // columns,
        "columns": places % columns,
        "weights": random.uniform(0.5, 2.0, count),
        "values": random.normal(size=count),
        "features": random.normal(size=(columns, width)),
        "coefficients": random.normal(size=(30, width)) @ random.normal(size=(width, width)),
    }


def observations(given: dict[str, Floats], residuals: Floats, rows: int) -> Observations:
    shape = rows, len(given["features"])
    return Observations(given["rows"], given["columns"], residuals, shape, weights=given["weights"])


def posterior_mean(given: dict[str, Floats], row: int, noise: float) -> Floats:
    """The minimum of Σ w (f·a − y)² / σ² + (a − μ)ᵀ Σ⁻¹ (a − μ), by the normal equations."""
    own = given["rows"] == row
    design, weights = given["features"][given["columns"][own]], given["weights"][own]
    mean, covariance = given["coefficients"].mean(0), np.cov(given["coefficients"].T, bias=True)
    precision = np.linalg.inv(covariance)
    normal = (design.T * weights) @ design / noise + precision
    return np.linalg.solve(normal, design.T @ (weights * given["values"][own]) / noise + precision @ mean)


@pytest.mark.parametrize("block", [1, 10, 1 << 22])
def test_from_the_mean_of_the_prior_rows_go_to_the_posterior_mean(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regression, "_BLOCK_NUMBERS", block)
    given, noise = problem(), 0.3
    mean, root = gaussian_prior(torch.from_numpy(given["coefficients"]))
    expected = given["features"][given["columns"]] @ mean.numpy()
    residuals = observations(given, given["values"] - expected, rows=7)
    changes = posterior_changes(root, torch.from_numpy(given["features"]), residuals, noise)
    for row in range(7):
        np.testing.assert_allclose(mean + changes[row], posterior_mean(given, row, noise), rtol=1e-9)


def test_ratings_in_two_parts_give_what_they_give_together() -> None:
    given, noise = problem(rows=1, columns=60), 0.3
    mean, root = gaussian_prior(torch.from_numpy(given["coefficients"]))
    features, coefficients = torch.from_numpy(given["features"]), mean
    for end in (20, 50):
        part = {name: array[:end] for name, array in given.items()}
        part["features"] = given["features"]
        residuals = given["values"][:end] - given["features"][given["columns"][:end]] @ coefficients.numpy()
        residuals[: end - 30 if end == 50 else 0] = 0.0  # those of the first part were taken up
        changes = posterior_changes(root, features, observations(part, residuals, rows=1), noise)
        coefficients = coefficients + changes[0]
    np.testing.assert_allclose(coefficients, posterior_mean(given, 0, noise), rtol=1e-9)


def test_a_row_without_entries_and_equal_coefficients_do_not_change() -> None:
    given = problem(rows=3)
    features = torch.from_numpy(given["features"])
    _, root = gaussian_prior(torch.from_numpy(given["coefficients"]))
    assert not posterior_changes(root, features, observations(given, np.ones(50), rows=5), 1.0)[3:].any()
    _, flat_root = gaussian_prior(torch.ones(4, 3, dtype=torch.float64))
    assert flat_root.shape == (3, 0)
    assert not posterior_changes(flat_root, features, observations(given, np.ones(50), rows=3), 1.0).any()
