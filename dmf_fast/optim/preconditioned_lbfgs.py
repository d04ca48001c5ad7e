"""L-BFGS for a chain of factors, preconditioned with the diagonal of the Gauss-Newton matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

# Per direction; the last trial is accepted without a test.
_MOST_TRIALS = 8
# Fraction of the decrease predicted by the slope that a trial must achieve (Armijo rule).
_ARMIJO = 1e-4
# Length of the first trial if there is no previous step, relative to `lr`.
_FIRST_LENGTH = 0.5
# Bounds of the factor by which a trial is shortened.
_SHORTEST, _LONGEST = 0.1, 0.5
# Least curvature along the previous step, relative to that of the preconditioner, at which the step is used:
# below it, it is rounding, or the objective is not convex there.
_LEAST_CURVATURE = 1e-4
# Keeps denominators above 0.
_LEAST_DECAY = 1e-30


class PreconditionedLBFGS(torch.optim.Optimizer):
    """L-BFGS with a memory of one step for ``W = W_N ⋯ W_1``, and a decay that spares large columns.

    With ``t_k = (‖a_k‖² + ‖b_k‖²) / 2`` the size of column k of two factors ``W_2 = [a_1 …]``,
    ``W_1ᵀ = [b_1 …]``, it minimizes::

        loss + Σ_k φ(t_k) + weight_decay / 2 · ‖biases‖²,    φ'(t) = λ (1 + t / knee)^(−concavity)

    where λ is ``weight_decay · decay_rate^max(0, step − decay_after)``. A concavity of 0 gives the usual L2
    decay of the factors, the nuclear norm of their product. Above the knee, a concavity of 1 − 2/N gives the
    Schatten-2/N quasi-norm, as the L2 decay of N balanced factors does (docs/theory.md; Giampouras et al., "A
    novel variational form of the Schatten-p quasi-norm", NeurIPS 2020).

    The direction is that of L-BFGS (Liu & Nocedal, 1989) with a memory of one step. Its initial matrix is the
    inverse of a diagonal: that of the Gauss-Newton matrix under the assumption that rows and columns of
    entries are independent. With ``p_N`` and ``q_0`` the curvatures of rows and columns,
    ``p_{j−1} = (W_j²)ᵀ p_j`` and ``q_j = W_j² q_{j−1}`` (elementwise squares), the diagonal of ``W_j`` is
    ``p_j q_{j−1}ᵀ`` plus its decay. The first trial of a step has length ``lr``, or half of it if there is no
    previous step; backtracking with quadratic interpolation shortens it until the objective has decreased
    enough (Armijo rule). Every step must see the same loss, that over all entries.

    Args:
        params: the factors ``[W_1, …, W_N]`` in one group, in this order; vectors, such as biases, in that
            group or in groups of their own.
        lr: length of the first trial, see above.
        weight_decay: initial λ; for vectors the usual L2 decay.
        decay_rate: factor by which λ is multiplied after each step, above 0 and at most 1.
        decay_after: number of steps before λ decreases.
        concavity: of the decay, in [0, 1); above 0 only for two factors.
        knee: size above which the decay decreases, above 0.
        curvature: a vector for each parameter of the group, or None for ones: ``(n,)`` for the first factor,
            ``(m,)`` for the last one, and the shape of a vector for itself; see `loss_curvature`.

    Raises:
        ValueError: an option is out of range, ``curvature`` does not have one vector for each parameter, the
            matrices of a group do not form a chain, or ``concavity`` is above 0 for another depth than 2.

    Example:
        >>> factors = [torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [1.0]])]
        >>> factors = [factor.requires_grad_() for factor in factors]
        >>> optimizer, target = PreconditionedLBFGS(factors), torch.full((2, 2), 2.0)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (factors[1] @ factors[0] - target).square().sum()
        ...     loss.backward()
        ...     return loss
        >>> losses = [optimizer.step(closure).item() for _ in range(30)]
        >>> losses[-1] < 1e-6
        True

    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        *,
        weight_decay: float = 0.0,
        decay_rate: float = 1.0,
        decay_after: int = 0,
        concavity: float = 0.0,
        knee: float = 1.0,
        curvature: Sequence[Tensor | None] | None = None,
    ) -> None:
        decay = {"weight_decay": weight_decay, "decay_rate": decay_rate, "decay_after": decay_after}
        shape = {"concavity": concavity, "knee": knee}
        super().__init__(params, {"lr": lr, **decay, **shape, "curvature": curvature})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group after checking its options and shapes."""
        options = {**self.defaults, **param_group}
        _check_numbers(options)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        factors = [p for p in group["params"] if p.dim() == 2]
        for lower, upper in pairwise(factors):
            if upper.shape[1] != lower.shape[0]:
                raise ValueError(
                    "the matrices of a group in `params` must form a chain [W_1, …, W_N], got shapes "
                    f"{tuple(lower.shape)} and {tuple(upper.shape)}"
                )
        group_curvatures(group, len(group["params"]))
        if group["concavity"] and len(factors) not in (0, 2):
            raise ValueError(
                "`concavity` must be 0 unless there are 2 factors, got "
                f"{group['concavity']} for {len(factors)}"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Make one step, and return the loss at its start.

        ``closure`` computes the gradients and returns the loss; it is called at each trial point.
        """

        def evaluated() -> Any:
            with torch.enable_grad():
                return closure()

        loss = evaluated()
        groups = [_Group(group) for group in self.param_groups]
        parameters = [parameter for group in groups for parameter in group.parameters]
        if not parameters:
            return loss
        state = self.state[parameters[0]]
        steps = state.get("step", 0)
        first = self.param_groups[0]
        rate = first["decay_rate"] ** max(0, steps - first["decay_after"])
        objective = float(loss) + _penalty(groups, rate)
        slope, size = self._advance(groups, rate)
        rounding = torch.finfo(parameters[0].dtype).eps * abs(objective)
        for trial in range(1, _MOST_TRIALS + 1):
            reached = float(evaluated()) + _penalty(groups, rate)
            if reached <= objective + _ARMIJO * size * slope + rounding or trial == _MOST_TRIALS:
                break
            # The minimizer of the parabola through both objectives with the given slope.
            above = reached - objective - slope * size
            least = -slope * size / (2 * above) if above else math.inf
            ratio = min(max(least, _SHORTEST), _LONGEST) if math.isfinite(least) else _SHORTEST
            self._shorten(parameters, ratio)
            size *= ratio
        state["step"] = steps + 1
        return loss

    def _shorten(self, parameters: list[Tensor], ratio: float) -> None:
        """Scale the last step by ``ratio``."""
        for parameter in parameters:
            move = self.state[parameter]["move"]
            parameter.sub_(move, alpha=1 - ratio)
            move.mul_(ratio)

    def _advance(self, groups: list[_Group], rate: float) -> tuple[float, float]:
        """Make the first trial of a new step; return the slope of the objective along it, and its length."""
        directions, turns, diagonals, moves, parameters = [], [], [], [], []
        for group in groups:
            now = group.sizes()
            decays = group.decays(now, rate)
            kept = self.state[group.parameters[0]].get("sizes")
            before = decays if kept is None else group.decays(_on_cpu(kept), rate)
            for place, parameter in enumerate(group.parameters):
                state, gradient = self.state[parameter], _gradient(parameter)
                move = state.get("move", torch.zeros_like(parameter))
                direction = gradient + group.decay_of(place, decays) * parameter
                earlier = group.decay_of(place, before) * (parameter - move)
                directions.append(direction)
                turns.append(direction - state.get("gradient", gradient) - earlier)
                state["gradient"] = gradient.clone()
                moves.append(move)
                parameters.append(parameter)
            diagonals += group.preconditioners(decays)
            if len(now):
                self.state[group.parameters[0]]["sizes"] = now.tolist()
        scaled = [one / diagonal for one, diagonal in zip(directions, diagonals, strict=True)]
        scaled_turns = [one / diagonal for one, diagonal in zip(turns, diagonals, strict=True)]
        lengths = [move * diagonal for move, diagonal in zip(moves, diagonals, strict=True)]
        lr = self.param_groups[0]["lr"]
        slope, size, turn, step = -_dot(directions, scaled), _FIRST_LENGTH * lr, 0.0, 0.0
        step_turn = _dot(moves, turns)
        if step_turn > _LEAST_CURVATURE * _dot(moves, lengths):
            step_gradient, turn_gradient = _dot(moves, directions), _dot(turns, scaled)
            learned_turn = step_gradient / step_turn
            learned_step = (
                turn_gradient - learned_turn * _dot(turns, scaled_turns)
            ) / step_turn - learned_turn
            learned_slope = slope + learned_turn * turn_gradient + learned_step * step_gradient
            if learned_slope < 0:
                slope, size, turn, step = learned_slope, lr, learned_turn, learned_step
        for parameter, one, one_turn, move in zip(parameters, scaled, scaled_turns, moves, strict=True):
            next_move = size * (step * move + (turn * one_turn - one))
            self.state[parameter]["move"] = next_move
            parameter.add_(next_move)
        return slope, size


class _Group:
    """The parameters of a group, their decay and their preconditioner."""

    def __init__(self, group: dict[str, Any]) -> None:
        self.options = group
        given = group_curvatures(group, len(group["params"]))
        pairs = [pair for pair in zip(group["params"], given, strict=True) if pair[0].grad is not None]
        self.parameters = [parameter for parameter, _ in pairs]
        self.curvatures = [curvature for _, curvature in pairs]
        self.factors = [parameter for parameter in self.parameters if parameter.dim() == 2]

    def sizes(self) -> Tensor:
        """Return t_k of each column of two factors, float64; empty for other depths."""
        if len(self.factors) != 2:
            return _on_cpu([])
        first, last = (factor.double() for factor in self.factors)
        sizes: Tensor = (first.square().sum(1) + last.square().sum(0)).cpu() / 2
        return sizes

    def decays(self, sizes: Tensor, rate: float) -> Tensor:
        """Return φ' of each column, or a single decay if there are no columns; float64 on the CPU."""
        decay, concavity = self.options["weight_decay"] * rate, self.options["concavity"]
        if not len(sizes):
            sizes = _on_cpu([0.0])
        decays: Tensor = decay * (1 + sizes / self.options["knee"]) ** -concavity
        return decays.clamp(min=_LEAST_DECAY)

    def decay_of(self, place: int, decays: Tensor) -> Tensor:
        """Return the decay of a parameter, to be broadcast to its shape."""
        parameter = self.parameters[place]
        if parameter.dim() != 2:
            constant: Tensor = parameter.new_tensor(max(self.options["weight_decay"], _LEAST_DECAY))
            return constant
        own = decays.to(parameter)
        return own[:, None] if len(own) > 1 and parameter is self.factors[0] else own

    def penalty(self, rate: float) -> float:
        """Return Σ φ(t_k) plus the L2 penalty of the vectors."""
        sizes = self.sizes()
        decay, concavity, knee = (self.options[name] for name in ("weight_decay", "concavity", "knee"))
        vectors = sum(p.double().square().sum().item() for p in self.parameters if p.dim() != 2)
        if not len(sizes):
            sizes = _on_cpu([sum(p.double().square().sum().item() for p in self.factors) / 2])
        if concavity:
            sizes = knee * ((1 + sizes / knee) ** (1 - concavity) - 1) / (1 - concavity)
        return float(decay * rate * sizes.sum().item() + decay / 2 * vectors)

    def preconditioners(self, decays: Tensor) -> list[Tensor]:
        """Return the diagonal of the preconditioner for each parameter."""
        of_factors = iter(zip(*self._curvatures_of_factors(), strict=True))
        diagonals = []
        for place, parameter in enumerate(self.parameters):
            if parameter.dim() == 2:
                rows, columns = next(of_factors)
                curvature = rows[:, None] * columns
            else:
                curvature = _or_ones(self.curvatures[place], parameter.numel(), parameter)
            diagonals.append(curvature + self.decay_of(place, decays))
        return diagonals

    def _curvatures_of_factors(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return p_j and q_{j−1} of each factor."""
        if not self.factors:
            return [], []
        first, last = self.factors[0], self.factors[-1]
        of = [c for p, c in zip(self.parameters, self.curvatures, strict=True) if p.dim() == 2]
        last_curvature = of[-1] if len(of) > 1 else None
        rows, columns = (
            [_or_ones(last_curvature, last.shape[0], last)],
            [_or_ones(of[0], first.shape[1], first)],
        )
        for factor in reversed(self.factors[1:]):
            rows.insert(0, (factor.square().T @ rows[0]))
        for factor in self.factors[:-1]:
            columns.append(factor.square() @ columns[-1])
        return rows, columns


def group_curvatures(group: Mapping[str, Any], parameters: int) -> Sequence[Tensor | None]:
    """Return the ``curvature`` of each of the parameters of a group; None stands for ones.

    Raises:
        ValueError: there is not one for each parameter.

    """
    given = group.get("curvature")
    if given is None:
        return [None] * parameters
    if len(given) != parameters:
        raise ValueError(
            f"`curvature` must have an element for each of the {parameters} parameters of the group, got "
            f"{len(given)}"
        )
    return given  # type: ignore[no-any-return]


def _penalty(groups: list[_Group], rate: float) -> float:
    return sum(group.penalty(rate) for group in groups)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _or_ones(given: Tensor | None, length: int, like: Tensor) -> Tensor:
    return like.new_ones(length) if given is None else given.to(like)


def _on_cpu(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device="cpu")


def _dot(left: list[Tensor], right: list[Tensor]) -> float:
    return sum((a.double() * b.double()).sum().item() for a, b in zip(left, right, strict=True))


def _check_numbers(options: dict[str, Any]) -> None:
    for name in ("lr", "weight_decay", "decay_after"):
        if not options[name] >= 0:
            raise ValueError(f"`{name}` must be at least 0, got {options[name]}")
    if not 0 < options["decay_rate"] <= 1:
        raise ValueError(f"`decay_rate` must be above 0 and at most 1, got {options['decay_rate']}")
    if not 0 <= options["concavity"] < 1:
        raise ValueError(f"`concavity` must be at least 0 and below 1, got {options['concavity']}")
    if not 0 < options["knee"] < math.inf:
        raise ValueError(f"`knee` must be above 0 and finite, got {options['knee']}")
