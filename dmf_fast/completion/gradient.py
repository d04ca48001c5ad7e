"""Leading singular vectors of the gradient of the loss, which measure noise and weight decay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_fast.distributed import RowBlocks
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops import operators
from dmf_fast.ops.functional import observed_product
from dmf_fast.ops.row_qr import householder_qr
from dmf_fast.sharding import WHOLE, RowSharding
from dmf_fast.threads import one_thread, one_thread_each

# In ratings, most of this many leading singular values are noise; their median measures it.
LEADING = 64
# Extra directions, so that those asked for have converged.
_OVERSAMPLING = 8
# A power of two whose square is negligible compared with 1.
_TINY = {torch.float32: 2.0**-20, torch.float64: 2.0**-40}
# Rows of a block that a thread processes at once.
_ROWS = 1 << 14
# Lowest ratio of the smallest to the largest diagonal entry of a Cholesky factor in float32.
_INDEPENDENT = 1e-2


@dataclass(frozen=True, eq=False)
class LeadingDirections:
    """The leading singular triplets of a matrix.

    Attributes:
        left: ``(m, k)``, orthonormal columns; the rows of this process.
        values: ``(k,)``, descending.
        right: ``(n, k)``, orthonormal columns.

    """

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def noise(self) -> float:
        """The median of at most `LEADING` values: about the pull of noise alone."""
        return self.values[:LEADING].median().item()

    def first(self, count: int) -> LeadingDirections:
        """Return the first ``count`` triplets, or all if there are fewer."""
        return LeadingDirections(self.left[:, :count], self.values[:count], self.right[:, :count])


@torch.no_grad()
def leading_directions(
    model: DeepMatrixFactorization, train: Observations, count: int, *, passes: int, seed: int = 0
) -> LeadingDirections:
    """Return the directions in which the mean loss is steepest, in the product of the parameters.

    With ``W = diag(r) · P · diag(s)`` for parameters with the product P, and R the residuals on Ω, the
    negative gradient with respect to P is ``G = (2/|Ω|) · diag(r) · R · diag(s)``. Every pass over Ω
    multiplies blocks of random vectors by it from both sides, and a last pass does so once more (after Halko,
    Martinsson & Tropp, "Finding Structure with Randomness", 2011, algorithm 4.4). A pass takes ``4 · |Ω| ·
    (count + 8)`` flops.

    Args:
        model: in any coordinates.
        train: observed entries.
        count: number of directions; at most ``min(m, n)`` are returned.
        passes: more passes give more accurate directions; the values converge sooner.
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
    left, right = _random_sides(train, width, seed, gradient.dtype)
    for _ in range(passes):
        image, other = gradient.times(left, right)
        left, right = qr_of_rows(image, train.sharding)[0], qr_of_rows(other, WHOLE)[0]
    image, _ = gradient.times(left, right)
    basis, values, turned = _svd(image, train.sharding)
    found = LeadingDirections(basis, values, _by_rows(right, turned.T))
    return found.first(min(count, rows, columns))


def _random_sides(train: Observations, width: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return random matrices for the columns and for the rows, whose blocks are seeded by their numbers."""

    def drawn(size: int, generator: torch.Generator) -> Tensor:
        # Uniform numbers: drawing normal ones takes as long as a pass.
        numbers = torch.rand(size, width, generator=generator, dtype=dtype, device="cpu")
        return numbers.sub_(0.5).to(train.device)

    generator = torch.Generator().manual_seed(seed)
    if isinstance(train, RowBlocks):
        left = torch.cat([drawn(train.rows_a_block, own) for own in train.generators(seed)])
    else:
        left = drawn(train.shape[0], generator)
    return left, drawn(train.shape[1], generator)


class _Gradient:
    """The negative gradient as a linear operator on blocks of vectors."""

    def __init__(self, model: DeepMatrixFactorization, train: Observations) -> None:
        self.dtype = operators.accumulator_dtype(train.dtype)
        residuals = [self._residuals(*part) for part in model.by_part(train)]
        largest = max((one.abs().max().item() for one in residuals if len(one)), default=0.0)
        largest = train.sharding.largest([largest])[0] or 1.0
        self._size = 2 * largest / train.total_weight
        self._coefficients = [-one / largest for one in residuals]
        self._layouts = [part.layout().buffer for part in train.parts]
        self._sharding = train.sharding
        scales = model.parameter_scales()
        self._rows = None if scales is None else scales.rows.to(self.dtype)[:, None]
        self._columns = None if scales is None else scales.columns.to(self.dtype)[:, None]

    def _residuals(
        self,
        part: Observations,
        factors: Sequence[Tensor],
        row_bias: Tensor | None,
        column_bias: Tensor | None,
    ) -> Tensor:
        """Return the residuals of a part, in the order of its layout."""
        layout = part.layout()
        product = observed_product(factors, part, row_bias=row_bias, column_bias=column_bias)
        predictions = part.with_values(product.to(part.dtype)).layout().values
        residuals = layout.values.to(self.dtype) - predictions.to(self.dtype)
        return residuals if layout.weights is None else residuals * layout.weights.to(self.dtype)

    def times(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``G · right`` and ``Gᵀ · left``."""
        if self._rows is None or self._columns is None:
            return self._product(left, right)
        image, other = self._product(self._rows * left, self._columns * right)
        return self._rows * image, self._columns * other

    def _product(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return the products with both blocks, as the gradients of a loss at nearly zero factors.

        The kernel of the loss visits the entries in layout order, which is faster than applying coefficients.
        """
        tiny = _TINY[self.dtype]
        small_right = (tiny * right).contiguous()
        images, others = [], []
        for rows, layout, coefficients in zip(
            self._sharding.split(tiny * left), self._layouts, self._coefficients, strict=True
        ):
            _, image, other = torch.ops.dmf_fast.completion_loss_gradients(
                rows.contiguous(), small_right, layout, coefficients, None, 0.5
            )
            images.append(image)
            others.append(other)
        times = self._size / tiny
        return torch.cat(images) * times, self._sharding.total(others) * times


def _svd(block: Tensor, sharding: RowSharding) -> tuple[Tensor, Tensor, Tensor]:
    """Return the thin singular value decomposition."""
    basis, triangle = qr_of_rows(block, sharding)
    with one_thread():
        vectors, values, turned = torch.linalg.svd(triangle, full_matrices=False)
    # Part by part, as the order of a library's sums depends on the number of rows.
    return torch.cat([_by_rows(part, vectors) for part in sharding.split(basis)]), values, turned


def qr_of_rows(block: Tensor, sharding: RowSharding) -> tuple[Tensor, Tensor]:
    """Return the QR decomposition of a tall matrix, by Cholesky if its columns are independent enough.

    After a pass, the columns are no further from orthonormal than the leading singular values are apart, so
    Cholesky QR is accurate enough, and several times as fast as Householder QR.

    Args:
        block: ``(m, k)``; the rows of this process.
        sharding: of the rows.

    """
    parts = sharding.split(block)
    squares = sharding.total([_squares(part) for part in parts])
    with one_thread():
        triangle, failed = torch.linalg.cholesky_ex(squares, upper=True)
        if failed or not triangle.diagonal().min() > _INDEPENDENT * triangle.diagonal().max():
            return householder_qr(block, sharding)
        eye = torch.eye(len(triangle), dtype=triangle.dtype, device=triangle.device)
        inverse = torch.linalg.solve_triangular(triangle, eye, upper=True)
    return torch.cat([_by_rows(part, inverse) for part in parts]), triangle


def _squares(part: Tensor) -> Tensor:
    squares = torch.stack(_of_row_parts(part, lambda rows: rows.T @ rows))
    with one_thread():  # the same result for any number of threads
        return squares.sum(0)


def _by_rows(block: Tensor, square: Tensor) -> Tensor:
    """Return the product of a tall block and a small matrix."""
    return torch.cat(_of_row_parts(block, lambda part: part @ square))


def _of_row_parts(block: Tensor, compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Compute in parts of a fixed size, so that no sum depends on the number of threads."""
    parts = [block[begin : begin + _ROWS] for begin in range(0, len(block), _ROWS)]
    if len(parts) == 1 or torch.get_num_threads() == 1:
        with one_thread():
            return [compute(part) for part in parts]
    with one_thread_each(torch.get_num_threads()) as pool:
        return list(pool.map(compute, parts))
