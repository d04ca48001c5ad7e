"""Initial values of a chain ``W_N ⋯ W_1``.

All draws are made in float64 on the CPU and cast afterwards, so that a seed gives the same factors for every
dtype and device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dmf_fast.checks import one_of, real_number

Draw = Callable[[Sequence[int], float, torch.Generator], list[Tensor]]


def initialize(
    name: str,
    dims: Sequence[int],
    init_scale: float,
    *,
    seed: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> list[Tensor]:
    """Return factors ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``.

    With ``s = init_scale``, an ``m × n`` product and narrowest hidden width ``r``, ``name`` is one of

    * ``"gaussian"``: independent normal entries, all of standard deviation ``s^(1/N) · d^(-1/2)``, where
      ``d`` is the geometric mean of the hidden widths and ``max(m, n)``: the mean of the squared Frobenius
      norm of the product is exactly ``s² · min(m, n)``.
    * ``"uniform"``: the same standard deviation, entries uniform around zero.
    * ``"balanced"``: ``W_{j+1}ᵀ W_{j+1} = W_j W_jᵀ``, which gradient flow preserves (Arora, Cohen & Hazan,
      "On the Optimization of Deep Networks", 2018, proof of theorem 1). A Gaussian ``m × n`` matrix of the
      norm above is drawn, truncated to rank ``r`` and split evenly among the factors (Arora, Cohen,
      Golowich & Hu, "A Convergence Analysis of Gradient Descent for Deep Linear Neural Networks", 2019,
      procedure 1, with random orthonormal bases of the hidden spaces in place of zero padding).
    * ``"orthogonal"``: random matrices with orthonormal rows or columns times ``s^(1/N)``. The product has
      ``min(m, n, r)`` singular values equal to ``s`` if no hidden width exceeds ``min(m, n)`` and the widths
      ``d_0, …, d_N`` never fall after they have risen.
    * ``"identity"``: ``s^(1/N)`` on the diagonal and 0 elsewhere; the product has ``s`` on its diagonal.

    Args:
        name: a key of `INITIALIZATIONS`.
        dims: ``(d_0, …, d_N)`` = (columns ``n``, hidden widths, rows ``m``).
        init_scale: ``s`` > 0.
        seed: of the draws; None draws one from torch's global generator, which `torch.manual_seed` seeds.
        dtype: floating-point dtype of the factors.
        device: device of the factors.

    Raises:
        TypeError: ``init_scale`` is not a number.
        ValueError: ``name`` is unknown, ``dims`` has fewer than two numbers or one below 1, or ``init_scale``
            is not positive and finite.

    Example:
        >>> [tuple(factor.shape) for factor in initialize("balanced", (5, 2, 4), 0.1, seed=0)]
        [(2, 5), (4, 2)]

    """
    one_of("initialization", name, INITIALIZATIONS)
    if len(dims) < 2 or min(dims) < 1:
        raise ValueError(
            f"`dims` must be (columns, hidden widths …, rows), each at least 1, got {tuple(dims)}"
        )
    real_number("init_scale", init_scale, above=0)
    if seed is None:
        seed = int(torch.randint(2**63 - 1, (), device="cpu"))
    factors = INITIALIZATIONS[name](dims, init_scale, torch.Generator().manual_seed(seed))
    return [factor.to(dtype=dtype, device=device).contiguous() for factor in factors]


def _gaussian(dims: Sequence[int], init_scale: float, generator: torch.Generator) -> list[Tensor]:
    deviation = standard_deviation(dims, init_scale)
    return [normal_numbers(shape, deviation, generator) for shape in _shapes(dims)]


def _uniform(dims: Sequence[int], init_scale: float, generator: torch.Generator) -> list[Tensor]:
    deviation = standard_deviation(dims, init_scale)
    return [uniform_numbers(shape, deviation, generator) for shape in _shapes(dims)]


def _balanced(dims: Sequence[int], init_scale: float, generator: torch.Generator) -> list[Tensor]:
    columns, rows, depth = dims[0], dims[-1], len(dims) - 1
    target = normal_numbers((rows, columns), 1.0, generator) * init_scale / math.sqrt(max(rows, columns))
    left, singular_values, right_transposed = torch.linalg.svd(target, full_matrices=False)
    rank = min(dims)
    bases = [right_transposed[:rank].T]
    bases += [_orthonormal((width, rank), generator) for width in dims[1:-1]]
    bases += [left[:, :rank]]
    share = singular_values[:rank] ** (1 / depth)
    return [(outer * share) @ inner.T for inner, outer in pairwise(bases)]


def _orthogonal(dims: Sequence[int], init_scale: float, generator: torch.Generator) -> list[Tensor]:
    share = init_scale ** (1 / (len(dims) - 1))
    return [share * _orthonormal(shape, generator) for shape in _shapes(dims)]


def _identity(dims: Sequence[int], init_scale: float, generator: torch.Generator) -> list[Tensor]:
    share = init_scale ** (1 / (len(dims) - 1))
    return [share * torch.eye(*shape, dtype=torch.float64, device="cpu") for shape in _shapes(dims)]


INITIALIZATIONS: dict[str, Draw] = {
    "gaussian": _gaussian,
    "balanced": _balanced,
    "orthogonal": _orthogonal,
    "identity": _identity,
    "uniform": _uniform,
}
"""The initializations by name, each a function of dims, scale and generator."""


def standard_deviation(dims: Sequence[int], init_scale: float) -> float:
    """Return ``s^(1/N) · d^(-1/2)``, by logarithms, since a product of many widths may overflow."""
    depth = len(dims) - 1
    log_widths = math.log(max(dims[0], dims[-1])) + sum(math.log(width) for width in dims[1:-1])
    return math.exp((math.log(init_scale) - log_widths / 2) / depth)


def _shapes(dims: Sequence[int]) -> list[tuple[int, int]]:
    return [(outer, inner) for inner, outer in pairwise(dims)]


def normal_numbers(shape: tuple[int, int], deviation: float, generator: torch.Generator) -> Tensor:
    """Return independent normal numbers of mean 0, a matrix of ``shape`` in float64."""
    return deviation * torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def uniform_numbers(shape: tuple[int, int], deviation: float, generator: torch.Generator) -> Tensor:
    """Return independent uniform numbers of mean 0, a matrix of ``shape`` in float64."""
    bound = math.sqrt(3) * deviation
    empty = torch.empty(shape, dtype=torch.float64, device="cpu")
    return empty.uniform_(-bound, bound, generator=generator)


def _orthonormal(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a random matrix with orthonormal columns, or orthonormal rows if it is wider than tall."""
    return torch.nn.init.orthogonal_(
        torch.empty(shape, dtype=torch.float64, device="cpu"), generator=generator
    )
