"""Random problems that tests draw: shapes, patterns, factors. Nothing here knows how they are solved."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from dmf_fast import Observations, reference

DEVICE = "cpu"  # where problems are drawn: the fixtures `device` and `backend` set it
PATTERNS = ("uniform", "skewed", "one row", "one column", "diagonal", "full", "empty")


@dataclass(frozen=True)
class Problem:
    """Observed entries and factors; biases and weights may be missing."""

    rows: Tensor
    columns: Tensor
    values: Tensor
    weights: Tensor | None
    shape: tuple[int, int]
    factors: list[Tensor]
    row_bias: Tensor | None
    column_bias: Tensor | None

    def observations(self) -> Observations:
        return Observations(self.rows, self.columns, self.values, self.shape, weights=self.weights)

    def parameters(self) -> list[Tensor]:
        biases = [bias for bias in (self.row_bias, self.column_bias) if bias is not None]
        return [*self.factors, *biases]

    def biases(self) -> dict[str, Tensor | None]:
        return {"row_bias": self.row_bias, "column_bias": self.column_bias}

    def to(self, dtype: torch.dtype) -> Problem:
        """The same numbers in another dtype; the parameters are leaves again."""

        def convert(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.detach().to(dtype)

        def leaf(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.detach().to(dtype).requires_grad_()

        return Problem(
            self.rows,
            self.columns,
            self.values.to(dtype),
            convert(self.weights),
            self.shape,
            [factor.detach().to(dtype).requires_grad_() for factor in self.factors],
            leaf(self.row_bias),
            leaf(self.column_bias),
        )

    def reference_loss(self, reduction: str) -> Tensor:
        return reference.completion_loss(
            self.factors, self.rows, self.columns, self.values, self.weights, reduction, **self.biases()
        )

    def reference_product(self) -> Tensor:
        return reference.observed_product(self.factors, self.rows, self.columns, **self.biases())


def make_problem(
    dims: tuple[int, ...],
    *,
    pattern: str = "uniform",
    density: float = 0.3,
    weighted: bool = False,
    bias: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Problem:
    """Draw a problem with factors of ``dims = (d_0, …, d_N)``; entries come in random order."""
    generator = np.random.default_rng(seed)
    columns_count, rows_count = dims[0], dims[-1]
    observed = _mask(pattern, rows_count, columns_count, density, generator)
    rows, columns = observed.nonzero()
    order = generator.permutation(len(rows))
    rows, columns = rows[order], columns[order]

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape)).to(DEVICE, dtype)

    factors = [
        (draw(outer, inner) / inner**0.5).requires_grad_() for inner, outer in itertools.pairwise(dims)
    ]
    return Problem(
        torch.from_numpy(rows).to(DEVICE),
        torch.from_numpy(columns).to(DEVICE),
        draw(len(rows)),
        torch.from_numpy(generator.random(len(rows))).to(DEVICE, dtype) if weighted else None,
        (rows_count, columns_count),
        factors,
        draw(rows_count).requires_grad_() if bias else None,
        draw(columns_count).requires_grad_() if bias else None,
    )


def _mask(
    pattern: str, rows: int, columns: int, density: float, generator: np.random.Generator
) -> np.ndarray:
    if pattern == "empty":
        return np.zeros((rows, columns), dtype=bool)
    if pattern == "full":
        return np.ones((rows, columns), dtype=bool)
    if pattern == "diagonal":
        return np.eye(rows, columns, dtype=bool)
    mask = generator.random((rows, columns)) < density
    if pattern == "skewed":
        likely = np.outer(generator.random(rows) ** 3, generator.random(columns) ** 3)
        mask = generator.random((rows, columns)) < 4 * density * likely
    elif pattern == "one row":
        mask[1:] = False
    elif pattern == "one column":
        mask[:, 1:] = False
    return mask


@st.composite
def problems(draw: st.DrawFn, *, largest: int = 70, largest_hidden: int = 40) -> Problem:
    """Depths 1 to 6, sizes down to 1, all patterns, with and without weights and biases, in float64."""
    depth = draw(st.integers(1, 6))
    outer = st.integers(1, largest)
    hidden = draw(st.lists(st.integers(1, largest_hidden), min_size=depth - 1, max_size=depth - 1))
    return make_problem(
        (draw(outer), *hidden, draw(outer)),
        pattern=draw(st.sampled_from(PATTERNS)),
        density=draw(st.sampled_from([0.02, 0.2, 0.7])),
        weighted=draw(st.booleans()),
        bias=draw(st.booleans()),
        seed=draw(st.integers(0, 10**6)),
    )
