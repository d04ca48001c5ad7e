"""The change of lines by new ratings, beside dense ridge regression in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dmf_fast.estimator import gaussian
from dmf_fast.estimator.gaussian import Evidence, Prior, line_changes

pytestmark = pytest.mark.usefixtures("one_thread")
Floats = NDArray[np.float64]


def problem(
    lines: int = 7, others: int = 20, width: int = 3, count: int = 50, seed: int = 0
) -> dict[str, Floats]:
    random = np.random.default_rng(seed)
    places = random.choice(lines * others, count, replace=False)
    return {
        "lines": places // others,
        "others": places % others,
        "weights": random.uniform(0.5, 2.0, count),
        "values": random.normal(size=count),
        "features": random.normal(size=(others, width)),
        "vectors": random.normal(size=(30, width)) @ random.normal(size=(width, width)),
    }


def evidence(given: dict[str, Floats], innovations: Floats, count: int) -> Evidence:
    arrays = (given["lines"], given["others"], given["weights"], innovations)
    return Evidence(*map(torch.from_numpy, arrays), count)


def posterior_mean(given: dict[str, Floats], line: int, noise: float) -> Floats:
    """The minimum of Σ w (f·a − y)² / σ² + (a − μ)ᵀ Σ⁻¹ (a − μ), by the normal equations."""
    own = given["lines"] == line
    design, weights = given["features"][given["others"][own]], given["weights"][own]
    mean, covariance = given["vectors"].mean(0), np.cov(given["vectors"].T, bias=True)
    precision = np.linalg.inv(covariance)
    normal = (design.T * weights) @ design / noise + precision
    return np.linalg.solve(normal, design.T @ (weights * given["values"][own]) / noise + precision @ mean)


@pytest.mark.parametrize("block", [1, 10, 1 << 22])
def test_from_the_mean_of_the_prior_lines_go_to_the_posterior_mean(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaussian, "_BLOCK_NUMBERS", block)
    given, noise = problem(), 0.3
    prior, features = Prior.of(torch.from_numpy(given["vectors"])), torch.from_numpy(given["features"])
    expected = given["features"][given["others"]] @ prior.mean.numpy()
    changes = line_changes(prior.root, features, evidence(given, given["values"] - expected, 7), noise)
    for line in range(7):
        np.testing.assert_allclose(prior.mean + changes[line], posterior_mean(given, line, noise), rtol=1e-9)


def test_ratings_in_two_parts_give_what_they_give_together() -> None:
    given, noise = problem(lines=1, others=60), 0.3
    prior, features = Prior.of(torch.from_numpy(given["vectors"])), torch.from_numpy(given["features"])
    vector = prior.mean
    for end in (20, 50):
        part = {name: array[:end] for name, array in given.items()}
        part["features"] = given["features"]
        innovations = given["values"][:end] - given["features"][given["others"][:end]] @ vector.numpy()
        innovations[: end - 30 if end == 50 else 0] = 0.0  # those of the first part were taken up
        vector = vector + line_changes(prior.root, features, evidence(part, innovations, 1), noise)[0]
    np.testing.assert_allclose(vector, posterior_mean(given, 0, noise), rtol=1e-9)


def test_a_line_without_entries_and_equal_vectors_do_not_change() -> None:
    given = problem(lines=3)
    innovations = np.ones(50)
    root = Prior.of(torch.from_numpy(given["vectors"])).root
    features = torch.from_numpy(given["features"])
    assert not line_changes(root, features, evidence(given, innovations, 5), 1.0)[3:].any()
    flat = Prior.of(torch.ones(4, 3, dtype=torch.float64))
    assert flat.root.shape == (3, 0)
    assert not line_changes(flat.root, features, evidence(given, innovations, 3), 1.0).any()
