"""Gradient flow of the product of a deep linear chain: what theory predicts, and what a run did.

The factors of ``W = W_N ⋯ W_1`` follow ``dW_j/dt = −∂ℓ/∂W_j`` for a loss ``ℓ(W)`` from a balanced start
(`dmf_fast.chain.balancedness`), and so they remain balanced. Then the velocity of the product depends on the
product alone. All results are float64 and without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]
from torch.nn.functional import pad

from dmf_fast.chain import chain_product, dims_of
from dmf_fast.checks import whole_number
from dmf_fast.observations import Observations
from dmf_fast.ops.functional import Reduction, completion_loss


@dataclass(frozen=True)
class VelocityComparison:
    """Measured and predicted velocities of singular values in the intervals between ``T`` states of a run.

    Attributes:
        times: ``(T - 1,)``, the midpoint of each interval.
        singular_values: ``(T - 1, k)``, the mean over both ends of the interval.
        measured: ``(T - 1, k)``, ``dσ_r/dt`` as the difference of both ends divided by the duration.
        predicted: ``(T - 1, k)``, the mean of `singular_value_velocities` over both ends.

    """

    times: Tensor
    singular_values: Tensor
    measured: Tensor
    predicted: Tensor

    @property
    def relative_errors(self) -> Tensor:
        """``(T - 1, k)``, ``|predicted − measured| / |measured|``; 0 where both are 0."""
        gaps = (self.predicted - self.measured).abs()
        return torch.where(gaps == 0, gaps, gaps / self.measured.abs())


@torch.no_grad()
def loss_gradient(product: Tensor, observations: Observations, reduction: Reduction = "mean") -> Tensor:
    """Return ``∇ℓ(W)`` of the completion loss: ``2 w_ij (W_ij − b_ij)`` on Ω, 0 elsewhere.

    The loss is that of `dmf_fast.completion_loss` at depth 1: Arora, Cohen, Hu & Luo, "Implicit
    Regularization in Deep Matrix Factorization" (NeurIPS 2019), section 2.

    Args:
        product: ``W`` of shape ``(m, n)``, of any floating dtype.
        observations: of the shape and device of ``product``, of any dtype.
        reduction: ``"sum"``, or ``"mean"``, which divides by the sum of the weights.

    Returns:
        ``(m, n)``, float64.

    Raises:
        TypeError, ValueError: ``product`` is not a matrix of real numbers, or as for
            `dmf_fast.completion_loss`.
        torch.linalg.LinAlgError: ``product`` is not finite.

    Example:
        >>> loss_gradient(torch.ones(1, 2), Observations([0], [1], [4.0]), "sum")
        tensor([[ 0., -6.]], dtype=torch.float64)

    """
    leaf = _real_matrices(product=product)[0].clone().requires_grad_()
    wide = observations.to(dtype=torch.float64) if isinstance(observations, Observations) else observations
    with torch.enable_grad():
        loss = completion_loss([leaf], wide, reduction)
    return torch.autograd.grad(loss, leaf)[0]


@torch.no_grad()
def singular_value_velocities(
    product: Tensor, gradient: Tensor, depth: int, k: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest singular values and ``dσ_r/dt = −N (σ_r²)^(1−1/N) ⟨∇ℓ(W), u_r v_rᵀ⟩``.

    Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019), theorem 3:
    the deeper the chain, the more the large singular values outpace the small ones.

    Singular values that are zero up to rounding are returned as zero. From depth 2 on they do not move; at
    depth 1 their velocity is arbitrary, as are their vectors. For equal singular values only the sum of the
    velocities is determined.

    Args:
        product: ``W`` of shape ``(m, n)``, of any floating dtype.
        gradient: ``∇ℓ(W)`` of the same shape and device, see `loss_gradient`.
        depth: ``N``, at least 1.
        k: number of values, from 1 to ``min(m, n)``; None for ``min(m, n)``.

    Returns:
        The singular values in descending order and their velocities, both ``(k,)`` and float64.

    Raises:
        TypeError: ``product`` or ``gradient`` is not a real tensor, or ``depth`` is not a whole number.
        ValueError: ``product`` and ``gradient`` are not matrices of the same shape, or ``depth`` or ``k`` is
            out of range.
        torch.linalg.LinAlgError: ``product`` or ``gradient`` is not finite.

    Example:
        >>> singular_value_velocities(torch.diag(torch.tensor([4.0, 1.0])), torch.eye(2), depth=2)
        (tensor([4., 1.], dtype=torch.float64), tensor([-8., -2.], dtype=torch.float64))

    """
    product, gradient = _real_matrices(product=product, gradient=gradient)
    _check_depth(depth)
    left, values, right = _singular_triples(product, k)
    slopes = (left * (gradient @ right)).sum(dim=0)
    return values, -depth * values ** (2 - 2 / depth) * slopes


@torch.no_grad()
def end_to_end_velocity(product: Tensor, gradient: Tensor, depth: int) -> Tensor:
    """Return ``dW/dt = −Σ_j (W Wᵀ)^((j−1)/N) ∇ℓ(W) (Wᵀ W)^((N−j)/N)``, j from 1 to N.

    Arora, Cohen & Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
    Overparameterization" (ICML 2018), theorem 1. The 0-th power is the identity, even of a singular matrix.

    Args:
        product: ``W`` of shape ``(m, n)``, of any floating dtype.
        gradient: ``∇ℓ(W)`` of the same shape and device, see `loss_gradient`.
        depth: ``N``, at least 1.

    Returns:
        ``(m, n)``, float64.

    Raises:
        TypeError, ValueError, torch.linalg.LinAlgError: as for `singular_value_velocities`.

    Example:
        >>> end_to_end_velocity(torch.diag(torch.tensor([4.0, 1.0])), torch.ones(2, 2), depth=2)
        tensor([[-8., -5.],
                [-5., -2.]], dtype=torch.float64)

    """
    product, gradient = _real_matrices(product=product, gradient=gradient)
    _check_depth(depth)
    left, values, right = _singular_triples(product, full_matrices=True)
    exponents = 2 * torch.arange(depth, dtype=torch.float64, device=values.device) / depth
    rows, columns = (pad(values, (0, length - len(values)))[:, None] for length in product.shape)
    rates = rows**exponents @ (columns ** exponents.flip(0)).T
    return -left @ (rates * (left.T @ gradient @ right)) @ right.T


@torch.no_grad()
def gradient_in_singular_basis(product: Tensor, gradient: Tensor, k: int | None = None) -> Tensor:
    """Return ``Uᵀ ∇ℓ(W) V`` for the ``k`` leading singular vectors ``U``, ``V`` of ``W``.

    Its diagonal entries move the singular values; the others rotate the singular vectors. If the singular
    values are distinct and positive, the vectors are stationary only where the off-diagonal entries vanish,
    that is, where they are also singular vectors of the gradient, in any order. Arora, Cohen, Hu & Luo,
    "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019), theorem 3 and corollary 1. The
    signs off the diagonal are arbitrary, as are those of the singular vectors.

    Args:
        product: ``W`` of shape ``(m, n)``, of any floating dtype.
        gradient: ``∇ℓ(W)`` of the same shape and device, see `loss_gradient`.
        k: number of vectors, from 1 to ``min(m, n)``; None for ``min(m, n)``.

    Returns:
        ``(k, k)``, float64.

    Raises:
        TypeError, ValueError, torch.linalg.LinAlgError: as for `singular_value_velocities`.

    Example:
        >>> gradient_in_singular_basis(torch.diag(torch.tensor([1.0, 4.0])), torch.ones(2, 2), k=1)
        tensor([[1.]], dtype=torch.float64)

    """
    product, gradient = _real_matrices(product=product, gradient=gradient)
    left, _, right = _singular_triples(product, k)
    return left.T @ gradient @ right


@torch.no_grad()
def singular_vector_alignment(product: Tensor, other: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
    """Return ``|⟨u_r, u'_r⟩|`` and ``|⟨v_r, v'_r⟩|`` of the ``k`` leading singular vectors of two matrices.

    Applied to the product along a run and the product at its end, it shows when each direction was found. It
    compares the r-th vectors with each other. To compare with the gradient, whose singular values need not be
    in the order of those of the product, use `gradient_in_singular_basis`. Vectors of equal or zero singular
    values are arbitrary.

    Args:
        product: ``(m, n)``, of any floating dtype.
        other: of the same shape and device.
        k: number of vectors, from 1 to ``min(m, n)``; None for ``min(m, n)``.

    Returns:
        Those of the left and of the right vectors, both ``(k,)`` and float64, from 0 (orthogonal) to 1
        (parallel).

    Raises:
        TypeError, ValueError, torch.linalg.LinAlgError: as for `singular_value_velocities`.

    Example:
        >>> singular_vector_alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[-3.0, -4.0]]))
        (tensor([1.], dtype=torch.float64), tensor([0.6000], dtype=torch.float64))

    """
    product, other = _real_matrices(product=product, other=other)
    left, _, right = _singular_triples(product, k)
    other_left, _, other_right = _singular_triples(other, k)
    return (left * other_left).sum(dim=0).abs(), (right * other_right).sum(dim=0).abs()


@torch.no_grad()
def compare_velocities(
    states: Sequence[Sequence[Tensor]],
    times: Sequence[float],
    observations: Observations,
    reduction: Reduction = "mean",
    k: int | None = None,
) -> VelocityComparison:
    """Return how fast the singular values moved from state to state, and how fast theory predicts.

    The prediction is that of `singular_value_velocities`, averaged over both ends of an interval
    (trapezoidal rule), and so accurate to second order in the duration. Gradient descent of step size ``lr``
    is at time ``step · lr`` and follows the flow to first order in ``lr``.

    Args:
        states: ``T`` ≥ 2 chains ``[W_1, …, W_N]``, of any floating dtype.
        times: the times of the states: ``T`` finite numbers, strictly increasing.
        observations: the entries that the run was fitted to.
        reduction: of the loss that the run minimized, ``"mean"`` or ``"sum"``.
        k: number of values, from 1 to ``min(m, n)``; None for ``min(m, n)``.

    Raises:
        TypeError, ValueError, torch.linalg.LinAlgError: as for `dmf_fast.chain.chain_product`,
            `loss_gradient` and `singular_value_velocities`; or ``times`` does not have one time for each
            state, or is not strictly increasing.

    Example:
        >>> states = [[torch.tensor([[3.0]])], [torch.tensor([[1.0]])]]
        >>> compare_velocities(states, [0.0, 0.5], Observations([0], [0], [0.0])).predicted
        tensor([[-4.]], dtype=torch.float64)

    """
    moments = _checked_times(times, len(states))
    at_states = []
    for factors in states:
        dims_of(factors)
        product = chain_product([factor.double() for factor in factors])
        gradient = loss_gradient(product, observations, reduction)
        at_states.append(torch.stack(singular_value_velocities(product, gradient, len(factors), k)))
    values, velocities = torch.stack(at_states, dim=1)
    moments = moments.to(values.device)
    return VelocityComparison(
        times=(moments[1:] + moments[:-1]) / 2,
        singular_values=(values[1:] + values[:-1]) / 2,
        measured=values.diff(dim=0) / moments.diff()[:, None],
        predicted=(velocities[1:] + velocities[:-1]) / 2,
    )


def _singular_triples(
    matrix: Tensor, k: int | None = None, *, full_matrices: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``k`` columns of ``U``, ``k`` singular values and ``k`` columns of ``V``, or all of them.

    Values within rounding of zero are set to zero, since the theory takes roots of them: at depth 17, 1e-17
    would become 1e-2.
    """
    if k is not None and not 1 <= k <= min(matrix.shape):
        raise ValueError(f"`k` must be from 1 to min(m, n) = {min(matrix.shape)}, got {k}")
    left, values, right_transposed = torch.linalg.svd(matrix, full_matrices=full_matrices)
    rounding = max(matrix.shape) * torch.finfo(values.dtype).eps * values[:1]
    return left[:, :k], values.where(values > rounding, 0.0)[:k], right_transposed[:k].T


def _real_matrices(**matrices: Tensor) -> list[Tensor]:
    """Return the matrices in float64, after checking that they have one shape."""
    for name, matrix in matrices.items():
        if not isinstance(matrix, Tensor) or matrix.is_complex():
            got = matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__
            raise TypeError(f"`{name}` must be a tensor of real numbers, got {got}")
        if matrix.dim() != 2:
            raise ValueError(f"`{name}` must be a matrix, got shape {tuple(matrix.shape)}")
        if not matrix.isfinite().all():
            raise LinAlgError(f"`{name}` must be finite, got infinity or NaN")
    shapes = [tuple(matrix.shape) for matrix in matrices.values()]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in matrices)} must have the same shape, got {shapes}"
        )
    return [matrix.detach().double() for matrix in matrices.values()]


def _check_depth(depth: int) -> None:
    whole_number("depth", depth, least=1)


def _checked_times(times: Sequence[float], states: int) -> Tensor:
    checked = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    if not (len(checked) == states >= 2 and checked.isfinite().all() and (checked.diff() > 0).all()):
        raise ValueError(
            "`times` must hold one finite time for each of two or more states, strictly increasing, got "
            f"{checked.tolist()} for {states} states"
        )
    return checked
