"""The largest eigenvalue by Lanczos' method: against known spectra, rather above than below."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmf_fast.convex.lanczos import largest_eigenvalue


def symmetric(eigenvalues: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    return (basis * eigenvalues) @ basis.T


def random_vector(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


SPECTRA = {
    "one value": torch.full((50,), 3.0, dtype=torch.float64),
    "even": torch.linspace(0, 2, 400, dtype=torch.float64),
    "one apart": torch.cat([torch.linspace(-1, 1, 300) ** 2, torch.tensor([5.0])]).double(),
    "a cluster of equals": torch.cat([torch.linspace(0, 0.9, 300), torch.ones(40)]).double(),
    "a crowd at the top": torch.cat([torch.linspace(0, 0.95, 400), torch.linspace(0.99, 1, 200)]).double(),
    "rank one": torch.cat([torch.zeros(30), torch.ones(1)]).double(),
    "one row": torch.tensor([2.0], dtype=torch.float64),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_it_is_never_below_the_largest_eigenvalue_and_hardly_above(name: str) -> None:
    eigenvalues = SPECTRA[name]
    matrix = symmetric(eigenvalues)
    largest = float(eigenvalues.max())
    found = largest_eigenvalue(lambda vector: matrix @ vector, random_vector(len(matrix)), 1e-4)

    assert largest * (1 - 1e-12) <= found <= largest * (1 + 3e-4)


def test_a_higher_precision_is_nearer() -> None:
    matrix = symmetric(SPECTRA["one apart"])
    rough, fine = (
        largest_eigenvalue(lambda vector: matrix @ vector, random_vector(len(matrix)), precision)
        for precision in (1e-1, 1e-9)
    )
    assert 5 <= fine <= rough
    assert fine == pytest.approx(5, rel=1e-8)


def test_the_zero_operator_has_the_eigenvalue_zero() -> None:
    assert largest_eigenvalue(lambda vector: 0 * vector, random_vector(10), 1e-6) == 0


def test_no_more_than_200_products_are_formed() -> None:
    diagonal = torch.linspace(0, 1, 5_000, dtype=torch.float64)
    products = 0

    def times(vector: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return diagonal * vector

    found = largest_eigenvalue(times, random_vector(5_000), 1e-14)
    assert products == 200
    assert 1 <= found <= 1 + 1e-3
