"""Gradient flow, the limit of gradient descent for small steps, for comparison with theory."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.chain import shape_of
from dmf_fast.checks import one_of, real_number
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.functional import Reduction, completion_loss
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.history import History, Row
from dmf_fast.training.measures import Measures
from dmf_fast.training.recording import Recording

Method = Literal["DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"]

_LEAST_RTOL = 2.3e-14  # below 100 eps SciPy warns and uses 100 eps


@dataclass(frozen=True)
class GradientFlow:
    """The states of gradient flow at the requested times.

    Attributes:
        times: the requested times.
        factors: ``[W_1, …, W_N]`` at each of the times, float64, without gradients.
        history: one row a time, see `dmf_fast.training.History`; ``time`` stands in place of ``step``,
            and ``seconds`` is the time that the computation took.
        gradient_evaluations: number of gradients computed, including those for the history.

    """

    times: tuple[float, ...]
    factors: list[list[Tensor]] = field(repr=False)
    history: History
    gradient_evaluations: int


@torch.inference_mode(False)
def gradient_flow(
    factors: Sequence[Tensor],
    train: Observations,
    times: Sequence[float],
    *,
    reduction: Reduction = "mean",
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Method = "DOP853",
    recording: Recording = Recording(),  # noqa: B008 (frozen)
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
) -> GradientFlow:
    """Integrate ``dW_j/dt = −∂loss/∂W_j`` from ``factors`` at time 0, in float64.

    Gradient descent with a small step size ``lr`` is close to its state at time ``t`` after ``t / lr`` steps.
    Theorems on deep linear chains are proved for gradient flow (Arora, Cohen, Hu & Luo, "Implicit
    Regularization in Deep Matrix Factorization", NeurIPS 2019, section 3). The integrator chooses its own
    steps and ends one at each of the ``times``, so that no state is interpolated.

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``, float64; not modified.
        train: observed entries, float64, of the shape and device of the product.
        times: finite, nonnegative and strictly increasing numbers: a sequence, an array or a tensor.
        reduction: of the loss, ``"mean"`` or ``"sum"``; the history has the mean in either case.
        rtol: relative tolerance of the integrator per parameter and step, at least 2.3e-14.
        atol: absolute tolerance, above 0; it should be well below the initial parameters.
        method: of `scipy.integrate.solve_ivp`. ``"DOP853"`` is of order 8; the implicit methods (``"Radau"``,
            ``"BDF"``, ``"LSODA"``) need a square matrix over all parameters.
        recording: what a row holds besides the losses; ``times`` determines when rows are recorded.
        validation: another set of observations, measured at each time.
        test: another set of observations, measured at each time.
        truth: the whole matrix, ``(m, n)``, to measure the reconstruction error at each time.

    Raises:
        TypeError: factors or observations are not float64, or ``times`` are not numbers.
        ValueError: shapes or devices do not match, ``times`` are not nonnegative and strictly increasing, a
            tolerance or the method is out of range, there are no entries of positive weight, or the loss or
            the gradient is not finite at the start.
        RuntimeError: the integration failed.

    Example:
        >>> train = Observations([0], [0], torch.tensor([3.0], dtype=torch.float64))
        >>> flow = gradient_flow([torch.zeros(1, 1, dtype=torch.float64)], train, [0.0, math.log(2) / 2])
        >>> [round(float(factors[0]), 8) for factors in flow.factors]
        [0.0, 1.5]

    """
    measures = Measures(validation, test, truth, recording)
    checked_times = _checked_times(times)
    _check_integrator(rtol, atol, method)
    _check_factors(factors, train, measures)
    flow = _Flow(train, reduction, [tuple(factor.shape) for factor in factors], factors[0].device)
    integrate = {"method": method, "rtol": rtol, "atol": atol}

    started, now = time.perf_counter(), 0.0
    state = np.concatenate([factor.detach().cpu().numpy().ravel() for factor in factors])
    _check_start(flow, flow.factors(state))
    states: list[list[Tensor]] = []
    rows: list[Row] = []
    for then in checked_times:
        state, now = _integrated(flow, state, now, then, integrate), then
        states.append([factor.clone() for factor in flow.factors(state)])
        rows.append(_row(flow, states[-1], measures, then, time.perf_counter() - started))
    return GradientFlow(tuple(checked_times), states, History.of_rows(rows), flow.evaluations)


class _Flow:
    """The right-hand side of the differential equation for the flat state that SciPy integrates."""

    def __init__(
        self,
        train: Observations,
        reduction: Reduction,
        shapes: Sequence[tuple[int, ...]],
        device: torch.device,
    ) -> None:
        self.train, self.reduction, self.shapes, self.device = train, reduction, shapes, device
        self.evaluations = 0

    def __call__(self, _: float, state: NDArray[np.float64]) -> NDArray[np.float64]:
        _loss, gradients = self.loss_and_gradients(self.factors(state))
        return -torch.cat([gradient.flatten() for gradient in gradients]).cpu().numpy()

    def factors(self, state: NDArray[np.float64]) -> list[Tensor]:
        """Return the factors of a state; they may share its memory."""
        flat = torch.from_numpy(state).to(self.device)
        parts = torch.split(flat, [math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def loss_and_gradients(self, factors: Sequence[Tensor]) -> tuple[float, tuple[Tensor, ...]]:
        """Return the loss and its gradients."""
        self.evaluations += 1
        leaves = [factor.detach().requires_grad_() for factor in factors]
        with torch.enable_grad():
            loss = completion_loss(leaves, self.train, self.reduction)
        return loss.item(), torch.autograd.grad(loss, leaves)


def _integrated(
    flow: _Flow, state: NDArray[np.float64], now: float, then: float, integrate: dict[str, Any]
) -> NDArray[np.float64]:
    """Return the state at time ``then``."""
    from scipy.integrate import solve_ivp  # here, since it is slow to import and rarely needed

    if then == now:
        return state
    with np.errstate(all="ignore"):  # trial steps that overflow are rejected and shortened
        solution = solve_ivp(flow, (now, then), state, t_eval=(then,), **integrate)
    if not solution.success:
        raise RuntimeError(
            f"gradient flow could not be integrated from time {now} to {then}: {solution.message} "
            "Larger tolerances or another method may help."
        )
    end: NDArray[np.float64] = solution.y[:, -1].copy()
    return end


def _row(flow: _Flow, factors: list[Tensor], measures: Measures, then: float, seconds: float) -> Row:
    loss, gradients = flow.loss_and_gradients(factors)
    norm = math.hypot(*(torch.linalg.vector_norm(gradient).item() for gradient in gradients))
    if flow.reduction == "sum":
        loss /= flow.train.total_weight
    return {"time": then, "seconds": seconds} | measures.columns(_State(factors, loss, norm))


@dataclass(frozen=True)
class _State:
    """Factors at a time, in the form that `Measures` expects."""

    factors: list[Tensor]
    loss: float
    gradient_norm: float

    def model(self) -> DeepMatrixFactorization:
        return DeepMatrixFactorization.of_factors(self.factors)

    def mean_squared_error(self, observations: Observations) -> float:
        return mean_squared_error(self.model(), observations)


def _checked_times(times: Sequence[float]) -> list[float]:
    try:
        checked = [float(then) for then in times]
    except (TypeError, ValueError):
        raise TypeError(f"`times` must be a sequence of numbers, got {times!r}") from None
    if not checked:
        raise ValueError("`times` must hold at least one time, got none")
    before = -math.inf
    for place, then in enumerate(checked):
        if not (math.isfinite(then) and then >= 0):
            raise ValueError(f"`times` must be finite and at least 0, got times[{place}] = {then}")
        if then <= before:
            raise ValueError(
                f"`times` must increase, got times[{place}] = {then} after times[{place - 1}] = {before}"
            )
        before = then
    return checked


def _check_factors(factors: Sequence[Tensor], train: Observations, measures: Measures) -> None:
    shape = shape_of(factors)
    for place, factor in enumerate(factors):
        if factor.dtype != torch.float64:
            raise TypeError(
                f"`factors[{place}]` must be float64, since integration needs the precision, got "
                f"{factor.dtype}; use .double()"
            )
    if train.total_weight == 0:
        raise ValueError("`train` must hold an entry with a weight above zero, got none")
    measures.check_shapes(shape)


def _check_start(flow: _Flow, factors: Sequence[Tensor]) -> None:
    """Raise a `ValueError` for NaN or infinity, for which SciPy would search for a first step forever."""
    loss, gradients = flow.loss_and_gradients(factors)
    if not (math.isfinite(loss) and all(gradient.isfinite().all() for gradient in gradients)):
        raise ValueError(f"`factors` must have a finite loss and gradient, got the loss {loss}")


def _check_integrator(rtol: float, atol: float, method: str) -> None:
    one_of("method", method, get_args(Method))
    real_number("rtol", rtol, least=_LEAST_RTOL)
    real_number("atol", atol, above=0)
