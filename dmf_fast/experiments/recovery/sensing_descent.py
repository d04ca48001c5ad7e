"""Batched gradient descent, which fits many chains of factors to the same measurements.

The measurement matrices are by far the largest data that a step of matrix sensing reads. All chains step
together, so that the matrices are read once per step: one product gives the residuals of all chains, another
the gradients in all their products. The rest is small, and batched over chains of equal shapes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from dmf_fast.chain import shape_of
from dmf_fast.checks import real_number, whole_number
from dmf_fast.optim import GroupRMSprop, OptimizerSpec
from dmf_fast.sensing import Measurements
from dmf_fast.training.interrupt import DeferredInterrupt

_OPTIONS = ("lr", "alpha", "eps", "weight_decay")
SensingStoppedBecause = Literal["steps", "train_loss_threshold", "diverged", "interrupted"]


@dataclass(frozen=True)
class SensingRun:
    """The result of `batched_gradient_descent` for one chain.

    Attributes:
        factors: ``[W_1, …, W_N]`` at the end.
        stopped_because: ``"steps"``, ``"train_loss_threshold"``, ``"interrupted"``, or ``"diverged"`` (the
            loss or the average of GroupRMSprop is not finite).
        steps: number of updates.
        train_loss: mean squared residual of ``factors``.

    """

    factors: list[Tensor]
    stopped_because: SensingStoppedBecause
    steps: int
    train_loss: float


@torch.no_grad()
def batched_gradient_descent(
    chains: Sequence[Sequence[Tensor]],
    measurements: Measurements,
    optimizer: Callable[..., torch.optim.Optimizer],
    *,
    counts: Sequence[int] | None = None,
    steps: int = 100_000,
    train_loss_threshold: float | None = None,
    progress: bool | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[SensingRun]:
    """Minimize the mean `dmf_fast.sensing.sensing_loss` of many chains in independent runs.

    Every run is equivalent to a loop over the loss and `dmf_fast.optim.GroupRMSprop`; a finished run leaves
    the batch. Up to rounding, a run does not depend on the others. Ctrl-C ends all runs before their next
    step and returns the results so far; a second Ctrl-C raises `KeyboardInterrupt` at once.

    Args:
        chains: the starts, each ``[W_1, …, W_N]`` with ``W_j`` of shape ``(d_j, d_{j-1})``, of any depths and
            hidden widths, of the shape, dtype and device of the measurements; they are not modified.
        measurements: to fit.
        optimizer: `dmf_fast.optim.GroupRMSprop` with its options, as a `functools.partial`.
        counts: for every chain, how many of the first measurements it is fitted to; None for all of them.
        steps: maximum number of steps of a run.
        train_loss_threshold: a run ends as soon as its mean loss is at most this; checked in every step.
        progress: whether to show a bar on standard error; None to show it if that is a terminal.
        interrupted: called before every step; if it returns True, all runs end as after Ctrl-C.

    Returns:
        A result for every chain, in the order of ``chains``.

    Raises:
        TypeError: dtypes disagree, ``optimizer`` is not supported, or as for `dmf_fast.chain.dims_of`.
        ValueError: shapes or devices disagree, ``counts``, ``steps`` or the threshold is out of range, or as
            for `dmf_fast.chain.dims_of`.

    Example:
        >>> from functools import partial
        >>> from dmf_fast.sensing import gaussian_measurements
        >>> measurements = gaussian_measurements(torch.ones(2, 2), count=6, seed=0)
        >>> shallow, deep = [torch.eye(2)], [torch.eye(2), torch.eye(2)]
        >>> optimizer = partial(GroupRMSprop, lr=1e-2)
        >>> runs = batched_gradient_descent(
        ...     [shallow, deep], measurements, optimizer, train_loss_threshold=1e-4
        ... )
        >>> [run.stopped_because for run in runs]
        ['train_loss_threshold', 'train_loss_threshold']

    """
    _check(chains, measurements)
    counts = _checked_counts(counts, len(chains), len(measurements))
    options = _group_rmsprop_options(optimizer)
    steps = whole_number("steps", steps, least=0)
    threshold = -math.inf
    if train_loss_threshold is not None:
        threshold = real_number("train_loss_threshold", train_loss_threshold, least=0)
    batch = _Batch(chains, measurements, counts, options)
    ended: dict[int, SensingRun] = {}
    bar = tqdm(total=steps, unit="step", unit_scale=True, disable=None if progress is None else not progress)
    with bar, DeferredInterrupt() as interrupt:
        while batch.places:
            batch.measure()
            continues = batch.is_finite() & (batch.losses > threshold)
            is_last = batch.step == steps
            if is_last or interrupt.requested or interrupted():
                continues.fill_(False)
            if continues.all():
                batch.update()
                bar.update()
            else:
                ended |= batch.results(~continues, threshold, "steps" if is_last else "interrupted")
                batch.keep(continues)
    return [ended[place] for place in range(len(chains))]


class _Batch:
    """The runs that continue: stacks of them, one after the other along the first axis of all arrays.

    Attributes:
        places: of the runs in the call, contiguous within a stack.
        step: number of updates so far.
        losses: ``(runs,)``, float64, from the last `measure`.

    """

    losses: Tensor

    def __init__(
        self,
        chains: Sequence[Sequence[Tensor]],
        measurements: Measurements,
        counts: Sequence[int],
        options: dict[str, float],
    ) -> None:
        self._options = options
        self._matrices = measurements.matrices.flatten(1)
        self._values = measurements.values
        alike: dict[tuple[torch.Size, ...], list[int]] = defaultdict(list)
        for place, chain in enumerate(chains):
            alike[tuple(factor.shape for factor in chain)].append(place)
        self._stacks = [
            _Stack(shapes, torch.stack([torch.cat([f.flatten() for f in chains[place]]) for place in places]))
            for shapes, places in alike.items()
        ]
        self.places = [place for places in alike.values() for place in places]
        self.step = 0
        self._counts = torch.tensor([counts[place] for place in self.places], device=measurements.device)
        self._square_average = self._values.new_zeros(len(chains), dtype=torch.float64)
        self._allocate()

    def _allocate(self) -> None:
        """Resize the buffers to the number of runs, and drop measurements that no run fits."""
        runs = len(self.places)
        most = max(self._counts.tolist(), default=0)
        self._matrices, self._values = self._matrices[:most], self._values[:most]
        self._fitted = torch.arange(most, device=self._counts.device) < self._counts[:, None]
        self._fit_all = bool(self._fitted.all())
        self._scales = (2 / self._counts.double()).to(self._values.dtype)[:, None]
        self._products = self._matrices.new_empty(runs, self._matrices.shape[1])
        self._residuals = self._matrices.new_empty(runs, len(self._matrices))
        self._norms = self._matrices.new_empty(runs)

    def measure(self) -> None:
        """Compute residuals and losses of the current factors."""
        for stack, products in zip(self._stacks, self._split(self._products), strict=True):
            stack.multiply(products)
        torch.addmm(self._values, self._products, self._matrices.T, beta=-1, out=self._residuals)
        if not self._fit_all:
            self._residuals.mul_(self._fitted)
        torch.linalg.vector_norm(self._residuals, dim=1, out=self._norms)
        self.losses = self._norms.double().square_().div_(self._counts)

    def is_finite(self) -> Tensor:
        """Return which runs have a finite loss and average, ``(runs,)`` booleans."""
        return self.losses.isfinite() & self._square_average.isfinite()

    def update(self) -> None:
        """Take a step, using the residuals from `measure`."""
        lr, alpha, eps, weight_decay = (self._options[name] for name in _OPTIONS)
        # The products are no longer needed, so the gradients overwrite them.
        gradients = torch.mm(self._residuals.mul_(self._scales), self._matrices, out=self._products)
        parts = zip(self._stacks, self._split(gradients), self._split(self._norms), strict=True)
        for stack, product_gradients, norms in parts:
            stack.differentiate(product_gradients, weight_decay)
            torch.linalg.vector_norm(stack.gradients, dim=1, out=norms)
        self.step += 1
        squares = self._norms.double().square_()
        self._square_average.mul_(alpha).add_(squares, alpha=1 - alpha)
        root = (self._square_average / (1 - alpha**self.step)).sqrt_()
        sizes = (lr / (root + eps)).to(self._norms.dtype)
        for stack, stack_sizes in zip(self._stacks, self._split(sizes), strict=True):
            stack.parameters.addcmul_(stack.gradients, stack_sizes[:, None], value=-1)

    def keep(self, kept: Tensor) -> None:
        """Keep the runs marked by ``kept``, ``(runs,)`` booleans, and drop the others."""
        parts = zip(self._stacks, self._split(kept), strict=True)
        self._stacks = [_Stack(stack.shapes, stack.parameters[some]) for stack, some in parts if some.any()]
        self.places = [place for place, is_kept in zip(self.places, kept.tolist(), strict=True) if is_kept]
        self._counts, self._square_average = self._counts[kept], self._square_average[kept]
        self._allocate()

    def results(
        self, ended: Tensor, threshold: float, otherwise: SensingStoppedBecause
    ) -> dict[int, SensingRun]:
        """Return the results of the runs marked by ``ended``, ``(runs,)`` booleans, by place."""
        chains = [chain for stack in self._stacks for chain in stack.chains()]
        columns = (self.places, chains, self.losses.tolist(), self.is_finite().tolist(), ended.tolist())
        results = {}
        for place, chain, loss, is_finite, has_ended in zip(*columns, strict=True):
            if has_ended:
                reached: SensingStoppedBecause = "train_loss_threshold" if loss <= threshold else otherwise
                factors = [factor.clone() for factor in chain]
                results[place] = SensingRun(factors, reached if is_finite else "diverged", self.step, loss)
        return results

    def _split(self, runs: Tensor) -> tuple[Tensor, ...]:
        """Return the part of every stack."""
        return torch.split(runs, [len(stack.parameters) for stack in self._stacks])


class _Stack:
    """Chains of equal shapes: a row of ``parameters`` holds the concatenated factors of one chain."""

    def __init__(self, shapes: tuple[torch.Size, ...], parameters: Tensor) -> None:
        self.shapes = shapes
        self.parameters = parameters
        self.gradients = torch.empty_like(parameters)
        parts = torch.split(parameters, [shape.numel() for shape in shapes], dim=1)
        self._factors = [part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]
        self._product_shape = (len(parameters), shapes[-1][0], shapes[0][1])
        self._partial_products: list[Tensor] = []

    def multiply(self, products: Tensor) -> None:
        """Write every ``W_N ⋯ W_1`` into its row of ``products``, ``(runs, m·n)``."""
        if len(self._factors) == 1:
            products.copy_(self.parameters)
            return
        self._partial_products = [self._factors[0]]
        for factor in self._factors[1:-1]:
            self._partial_products.append(torch.bmm(factor, self._partial_products[-1]))
        torch.bmm(self._factors[-1], self._partial_products[-1], out=products.view(self._product_shape))

    def differentiate(self, product_gradients: Tensor, weight_decay: float) -> None:
        """Compute ``gradients`` from the gradients in the products of `multiply`, ``(runs, m·n)``."""
        outer = product_gradients.view(self._product_shape)
        gradients = []
        for factor, product in zip(self._factors[:0:-1], self._partial_products[::-1], strict=True):
            gradients.append(torch.bmm(outer, product.mT))
            outer = torch.bmm(factor.mT, outer)
        gradients.append(outer)
        torch.cat([gradient.flatten(1) for gradient in gradients[::-1]], dim=1, out=self.gradients)
        if weight_decay:
            self.gradients.add_(self.parameters, alpha=weight_decay)

    def chains(self) -> list[tuple[Tensor, ...]]:
        """Return the factors of every run."""
        return list(zip(*self._factors, strict=True))


def _group_rmsprop_options(optimizer: Callable[..., torch.optim.Optimizer]) -> dict[str, float]:
    """Return ``lr``, ``alpha``, ``eps`` and ``weight_decay``."""
    spec = OptimizerSpec.of(optimizer)
    if spec.optimizer is not GroupRMSprop:
        raise TypeError(
            f"`optimizer` must be a functools.partial of dmf_fast.optim.GroupRMSprop, got {spec.name}"
        )
    spec.make([torch.empty(0)])  # checks the options
    options = spec.all_options()
    return {name: float(options[name]) for name in _OPTIONS}


def _checked_counts(counts: Sequence[int] | None, chains: int, measurements: int) -> Sequence[int]:
    """Return the number of measurements that every chain is fitted to."""
    if counts is None:
        return [measurements] * chains
    if len(counts) != chains:
        raise ValueError(f"`counts` must have one number for each of the {chains} chains, got {len(counts)}")
    return [
        whole_number(f"counts[{place}]", count, least=1, most=measurements)
        for place, count in enumerate(counts)
    ]


def _check(chains: Sequence[Sequence[Tensor]], measurements: Measurements) -> None:
    for place, chain in enumerate(chains):
        try:
            shape = shape_of(chain)
        except (TypeError, ValueError) as error:
            raise type(error)(f"`chains[{place}]`: {error}") from error
        if shape != measurements.shape:
            raise ValueError(
                f"`chains[{place}]` must multiply to the shape of the measurements, {measurements.shape}, "
                f"got {shape}"
            )
        for factor in chain:
            if factor.dtype != measurements.dtype:
                raise TypeError(
                    f"`chains[{place}]` must have the dtype of the measurements, {measurements.dtype}, got "
                    f"{factor.dtype}"
                )
            if factor.device != measurements.device:
                raise ValueError(
                    f"`chains[{place}]` must be on the device of the measurements, {measurements.device}, "
                    f"got {factor.device}"
                )
