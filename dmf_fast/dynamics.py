"""Gradient flow over a deep linear chain, in the product: what theory says of a state, and what a run did.

The factors of ``W = W_N ⋯ W_1`` descend the loss ``ℓ(W)``, ``dW_j/dt = −∂ℓ/∂W_j``, and are balanced at the
start (`dmf_fast.chain.balancedness`), so that they remain so. Then the velocity of the product is a function
of the product alone. All results are float64 and without gradients.
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
    """Velocities of singular values between the ``T`` states of a run, measured and predicted.

    Attributes:
        times: ``(T - 1,)``, the middle of every interval.
        singular_values: ``(T - 1, k)``, the mean of both ends.
        measured: ``(T - 1, k)``, ``dσ_r/dt`` as the difference of both ends over the duration.
        predicted: ``(T - 1, k)``, the mean of `singular_value_velocities` at both ends.

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
        observations: of that shape and on that device, of any dtype.
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
    the deeper the chain, the more the large singular values outrun the small ones.

    Zero to rounding is given as zero: it rests from depth 2 on, and at depth 1 its velocity is arbitrary, as
    are its vectors. Of equal singular values only the sum of the velocities is determined.

    Args:
        product: ``W`` of shape ``(m, n)``, of any floating dtype.
        gradient: ``∇ℓ(W)`` of the same shape and device, see `loss_gradient`.
        depth: ``N``, at least 1.
        k: from 1 to ``min(m, n)``, which is the default.

    Returns:
        The singular values, descending, and their velocities, both ``(k,)`` and float64.

    Raises:
        TypeError: ``product`` or ``gradient`` is not a real tensor, or ``depth`` is not a whole number.
        ValueError: they are not matrices of one shape, or ``depth`` or ``k`` is out of range.
        torch.linalg.LinAlgError: they are not finite.

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
    Overparameterization" (ICML 2018), theorem 1. The power 0 is the identity, also of a singular matrix.

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

    Its diagonal moves the singular values; the rest turns the vectors, which come to rest only where it is
    zero (if the values are distinct and positive): where they are singular vectors of the gradient as well,
    in any order. Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS
    2019), theorem 3 and corollary 1. Off the diagonal signs are arbitrary, as are those of the vectors.

    Args:
        product: ``W`` of shape ``(m, n)``, of any floating dtype.
        gradient: ``∇ℓ(W)`` of the same shape and device, see `loss_gradient`.
        k: from 1 to ``min(m, n)``, which is the default.

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

    Of the product along a run against the product at its end, this says when each direction was found. It
    compares the r-th with the r-th; see `gradient_in_singular_basis` for the gradient, whose singular values
    need not be in the order of the product's. Vectors of equal or zero singular values are arbitrary.

    Args:
        product: ``(m, n)``, of any floating dtype.
        other: of the same shape and device.
        k: from 1 to ``min(m, n)``, which is the default.

    Returns:
        Left and right, both ``(k,)`` and float64, from 0 (orthogonal) to 1 (the same line).

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
    """Return how fast the singular values moved from state to state, and what theorem 3 predicts.

    The prediction is that of `singular_value_velocities`, averaged over both ends of an interval as by the
    trapezoidal rule: right to the second order of the duration. Plain gradient descent of step size ``lr`` is
    at time ``step · lr``, and follows the flow to the first order of ``lr``.

    Args:
        states: ``T`` ≥ 2 chains ``[W_1, …, W_N]``, of any floating dtype.
        times: when the run was there: ``T`` finite numbers, each above the one before.
        observations: what the run was fitted to.
        reduction: of the loss that it descended, ``"mean"`` or ``"sum"``.
        k: from 1 to ``min(m, n)``, which is the default.

    Raises:
        TypeError, ValueError, torch.linalg.LinAlgError: as for `dmf_fast.chain.chain_product`,
            `loss_gradient` and `singular_value_velocities`, or ``times`` does not fit ``states`` or rise.

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
    """Return ``k`` columns of ``U``, ``k`` singular values and ``k`` columns of ``V``, or all.

    What rounding leaves of a zero is zero again: theory takes roots of it, 1e-17 to 1e-2 at a depth of 17.
    """
    if k is not None and not 1 <= k <= min(matrix.shape):
        raise ValueError(f"`k` must be from 1 to min(m, n) = {min(matrix.shape)}, got {k}")
    left, values, right_transposed = torch.linalg.svd(matrix, full_matrices=full_matrices)
    rounding = max(matrix.shape) * torch.finfo(values.dtype).eps * values[:1]
    return left[:, :k], values.where(values > rounding, 0.0)[:k], right_transposed[:k].T


def _real_matrices(**matrices: Tensor) -> list[Tensor]:
    """Return matrices of one shape in float64."""
    for name, matrix in matrices.items():
        if not isinstance(matrix, Tensor) or matrix.is_complex():
            got = matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__
            raise TypeError(f"`{name}` must be a tensor of real numbers, got {got}")
        if matrix.dim() != 2:
            raise ValueError(f"`{name}` must be a matrix, got shape {tuple(matrix.shape)}")
        if not matrix.isfinite().all():
            raise LinAlgError(f"`{name}` must be finite, got infinite numbers or NaN")
    shapes = [tuple(matrix.shape) for matrix in matrices.values()]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in matrices)} must have one shape, got {shapes}"
        )
    return [matrix.detach().double() for matrix in matrices.values()]


def _check_depth(depth: int) -> None:
    whole_number("depth", depth, least=1)


def _checked_times(times: Sequence[float], states: int) -> Tensor:
    checked = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    if not (len(checked) == states >= 2 and checked.isfinite().all() and (checked.diff() > 0).all()):
        raise ValueError(
            "`times` must hold a finite time for each of two or more states, each above the one before, got "
            f"{checked.tolist()} for {states} states"
        )
    return checked
