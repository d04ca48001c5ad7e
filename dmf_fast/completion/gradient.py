"""Leading singular vectors of the loss's gradient, and what they say about noise and weight decay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops import operators
from dmf_fast.threads import one_thread

# So many of the leading singular values are mostly noise in ratings; their median measures it.
LEADING = 64
# More directions than are asked for, so that those have settled.
_OVERSAMPLING = 8
# Of the diagonal of a Cholesky factor in float32: the least compared with the largest.
_INDEPENDENT = 1e-2


@dataclass(frozen=True, eq=False)
class LeadingDirections:
    """The leading singular triplets of a matrix.

    Attributes:
        left: ``(m, k)``, orthonormal columns.
        values: ``(k,)``, descending.
        right: ``(n, k)``, orthonormal columns.

    """

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def noise(self) -> float:
        """The median of the values, of at most `LEADING`: about what noise alone would pull."""
        return self.values[:LEADING].median().item()

    def first(self, count: int) -> LeadingDirections:
        """Return the first ``count``, or all."""
        return LeadingDirections(self.left[:, :count], self.values[:count], self.right[:, :count])


@torch.no_grad()
def leading_directions(
    model: DeepMatrixFactorization, train: Observations, count: int, *, passes: int, seed: int = 0
) -> LeadingDirections:
    """Return the steepest directions of the mean loss in the product of the parameters.

    With ``W = diag(r) · P · diag(s)`` for parameters with the product P, and R the residuals on Ω, the
    negative gradient with respect to P is ``G = (2/|Ω|) · diag(r) · R · diag(s)``. Both sides of a block of
    random vectors are multiplied with it in every pass over Ω, and once more in the end (after Halko,
    Martinsson & Tropp, "Finding Structure with Randomness", 2011, algorithm 4.4). A pass takes
    ``4 · |Ω| · (count + 8)`` flops.

    Args:
        model: in any coordinates.
        train: observed entries.
        count: of directions; at most ``min(m, n)`` are returned.
        passes: the more, the closer are the directions; their values settle sooner.
        seed: of the random vectors.

    Example:
        >>> train = Observations([0, 1], [0, 1], [3.0, 1.0])
        >>> model = DeepMatrixFactorization.of_factors([torch.zeros(1, 2), torch.zeros(2, 1)])
        >>> leading_directions(model, train, 2, passes=4).values.round()
        tensor([3., 1.])

    """
    rows, columns = model.shape
    gradient = _Gradient(model, train)
    width = min(count + _OVERSAMPLING, rows, columns)
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.randn(size, width, generator=generator, dtype=gradient.dtype).to(train.device)
        for size in (rows, columns)
    )
    # In one thread, so that the order of a sum does not depend on their number; the passes use them all.
    for _ in range(passes):
        left, right = (_orthonormal(side) for side in gradient.times(left, right))
    image, _ = gradient.times(left, right)
    with one_thread():
        vectors, values, turned = torch.linalg.svd(image, full_matrices=False)
        found = LeadingDirections(vectors, values, right @ turned.T)
    return found.first(min(count, rows, columns))


class _Gradient:
    """The negative gradient as a matrix that is multiplied with blocks of vectors."""

    def __init__(self, model: DeepMatrixFactorization, train: Observations) -> None:
        self.dtype = operators.accumulator_dtype(train.dtype)
        residuals = train.values.to(self.dtype) - model(train).to(self.dtype)
        if train.weights is not None:
            residuals *= train.weights.to(self.dtype)
        self._coefficients = residuals * (2 / train.total_weight)
        self._layout = train.layout().buffer
        scales = model.parameter_scales()
        self._rows = None if scales is None else scales.rows.to(self.dtype)[:, None]
        self._columns = None if scales is None else scales.columns.to(self.dtype)[:, None]

    def times(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``G · right`` and ``Gᵀ · left``."""
        if self._rows is None or self._columns is None:
            return self._product(left, right)
        image, other = self._product(self._rows * left, self._columns * right)
        return self._rows * image, self._columns * other

    def _product(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        image, other = torch.ops.dmf_fast.observed_product_backward(
            self._coefficients, left.contiguous(), right.contiguous(), self._layout
        )
        return image, other


def _orthonormal(block: Tensor) -> Tensor:
    """Return an orthonormal basis of the columns, by Cholesky's decomposition where they are independent.

    After a pass the columns are at most as far from orthonormal as the leading singular values differ, so
    that this is accurate enough, and several times as fast as Householder's.
    """
    with one_thread():
        triangle, failed = torch.linalg.cholesky_ex(block.T @ block, upper=True)
        if failed or not triangle.diagonal().min() > _INDEPENDENT * triangle.diagonal().max():
            basis: Tensor = torch.linalg.qr(block)[0]
        else:
            basis = torch.linalg.solve_triangular(triangle, block, upper=True, left=False)
        return basis
