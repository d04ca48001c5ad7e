"""Claims about gradient flow on commuting measurements, and the rules that decide them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from dmf_fast.experiments.norms.commuting_flows import spread_off_diagonal
from dmf_fast.experiments.page.comparison import PAIRED_RULE, Comparison, less
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.spectrum import schatten_norm

CLOSE = 0.01
POWERS = (0.25, 0.5, 0.75, 0.95)
SHARES = (0.01, 0.1, 1.0)


def least_nuclear_norm(flows: pa.Table) -> Claim:
    """Return the claim that commuting measurements lead to the least nuclear norm."""
    holds, evidence = [], []
    for depth in _depths(flows, "commuting"):
        scales = scales_of(flows, depth)
        largest, smallest = (excess(flows, "commuting", depth, scales[place]) for place in (-1, 0))
        holds.append(bool((np.abs(smallest) < CLOSE).all() and (smallest < largest).all()))
        evidence.append(
            f"depth {depth} median {np.median(largest):.2g} from {scales[-1]:g}, at most "
            f"{np.abs(smallest).max():.1g} from {scales[0]:g}"
        )
    of_depth_1 = np.median(excess(flows, "commuting", 1, scales_of(flows, 1)[0]))
    others = flows.filter(pc.field("problem") == "commuting")
    least, of_all = (others[name].to_numpy() for name in ("least_nuclear_norm", "least_of_all"))
    difference = np.abs(of_all / least - 1).max()
    return Claim(
        "With commuting measurements gradient flow from small multiples of the identity goes to the least "
        "nuclear norm of the positive semidefinite matrices that fit, at every depth from 2 on.",
        "Gunasekar et al. 2017 for depth 2, Arora et al. 2019 for every depth",
        f"At depths 2, 3 and 4, in every seed, the nuclear norm is within {CLOSE:.0%} of the least, that of "
        "a linear program, from the smallest start, and less than from the largest.",
        verdict(all(holds)),
        f"Excess: {'; '.join(evidence)}; depth 1 stays at {of_depth_1:.2g}. The least nuclear norm of "
        f"all matrices that fit differs from that of the linear program by {difference:.1g}.",
    )


def no_schatten_minimum(flows: pa.Table) -> Claim:
    """Return the claim that the solutions are no local minima of Schatten quasi-norms."""
    ratios = {
        (power, share): np.concatenate(
            [schatten_ratios(flows, depth, power, share) for depth in _depths(flows, "commuting")]
        )
        for power in POWERS
        for share in SHARES
    }
    falls = {
        share: "; ".join(f"p = {power:g} {1 - ratios[power, share].max():.2g}" for power in POWERS)
        for share in (SHARES[0], SHARES[-1])
    }
    return Claim(
        "The solution that commuting measurements lead to is no local minimum of a Schatten-p quasi-norm, "
        "p < 1.",
        "Arora et al. 2019",
        "At the solutions from the smallest start, depths 2, 3 and 4, every seed: with t √(λ_1 λ_2) off the "
        "diagonal, next to the two largest eigenvalues, a matrix fits as well and has the same nuclear norm; "
        f"its Σ σ^p is smaller for p among {POWERS} and t among {SHARES}.",
        verdict(all(bool((ratio < 1).all()) for ratio in ratios.values())),
        f"Σ σ^p falls at least by, relative: {', '.join(f't = {t:g}: {text}' for t, text in falls.items())}.",
    )


def lower_rank_off_the_basis(flows: pa.Table) -> Claim:
    """Return the claim that a start off the shared basis leads deep chains to a lower rank."""
    kind = "off the basis"
    compared = {depth: _lower_rank(flows, kind, depth) for depth in _depths(flows, kind) if depth > 2}
    start, shared = _ranks(flows, kind, 2)
    change = float(np.abs(start / shared - 1).max())
    return Claim(
        "With commuting measurements every depth from 3 on needs the exact start: from one that is 1% off "
        "the shared basis gradient flow ends with a lower effective rank; at depth 2 it does not.",
        OWN,
        "At every depth from 3 on the effective rank is below that from the exact start at the same scale, "
        f"{PAIRED_RULE}; at depth 2 it changes by less than {CLOSE:.0%} in every seed.",
        verdict(change < CLOSE and bool(compared) and all(one.holds for one in compared.values())),
        f"{_evidence(compared)}; depth 2: change {change:.1g} at most.",
    )


def not_without_commuting(flows: pa.Table) -> Claim:
    """Return the claim that non-commuting measurements lead farther from the minimum nuclear norm."""
    kind = "not commuting"
    compared = {}
    for depth in _depths(flows, kind):
        (scale,) = scales_of(flows, depth, kind)
        pairs = [np.maximum(excess(flows, one, depth, scale), 1e-9) for one in ("commuting", kind)]
        compared[depth] = less("commuting", pairs[0], "not commuting", pairs[1])
    ranks = {depth: _lower_rank(flows, kind, depth) for depth in compared if depth > 2}
    eigenvalues = flows.filter(pc.field("problem") == kind)["least_eigenvalue"].to_pylist()
    return Claim(
        "Where the measurements do not commute the nuclear norm ends farther above the least, and every "
        "depth from 3 on ends with a lower effective rank.",
        f"{OWN}; the theorems assume measurements that commute",
        f"At every depth from 2 on the excess is larger than with commuting measurements, {PAIRED_RULE}, and "
        "at every depth from 3 on the effective rank is smaller, by the same test.",
        verdict(bool(ranks) and all(one.holds for one in [*compared.values(), *ranks.values()])),
        f"Excess: {_evidence(compared)}. Effective rank: {_evidence(ranks)}. The matrices of least nuclear "
        f"norm are positive semidefinite to {max(0.0, -min(eigenvalues)):.1g}.",
    )


def scales_of(flows: pa.Table, depth: int, problem: str = "commuting") -> list[float]:
    """Return the scales of a depth, ascending."""
    is_of = (pc.field("depth") == depth) & (pc.field("problem") == problem)
    return sorted(set(flows.filter(is_of)["init_scale"].to_pylist()))


def excess(flows: pa.Table, problem: str, depth: int, scale: float) -> NDArray[np.float64]:
    """Return the nuclear norm over the least one, less 1, ``(seeds,)``."""
    norm, least = (
        by_seed(flows, name, problem=problem, depth=depth, init_scale=scale)
        for name in ("nuclear_norm", "least_nuclear_norm")
    )
    found: NDArray[np.float64] = norm / least - 1
    return found


def schatten_ratios(flows: pa.Table, depth: int, power: float, share: float) -> NDArray[np.float64]:
    """Return ``Σ σ^p`` with ``share`` of the largest off-diagonal entry over that without, ``(seeds,)``.

    Of the solutions of commuting measurements from the smallest start, see `spread_off_diagonal`.
    """
    labels = {"problem": "commuting", "depth": depth, "init_scale": scales_of(flows, depth)[0]}
    ratios = []
    for values in by_seed(flows, "singular_values", **labels):
        solution = torch.tensor(list(values), dtype=torch.float64)
        # Only the two values that move: raised to a small power, the rounding errors of tiny ones would
        # matter.
        pair = torch.linalg.svdvals(spread_off_diagonal(solution[:2], share))
        moved = torch.cat([pair, solution[2:]])
        ratios.append(float(schatten_norm(moved, power) / schatten_norm(solution, power)) ** power)
    return np.array(ratios)


def _depths(flows: pa.Table, problem: str) -> list[int]:
    found = set(flows.filter(pc.field("problem") == problem)["depth"].to_pylist())
    return sorted(depth for depth in found if depth > 1)


def _ranks(flows: pa.Table, problem: str, depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the effective ranks of a problem and those of the commuting one at the same scale."""
    (scale,) = scales_of(flows, depth, problem)
    found, shared = (
        by_seed(flows, "effective_rank", problem=one, depth=depth, init_scale=scale)
        for one in (problem, "commuting")
    )
    return found, shared


def _lower_rank(flows: pa.Table, problem: str, depth: int) -> Comparison:
    found, shared = _ranks(flows, problem, depth)
    return less(problem, found, "exact start and commuting", shared)


def _evidence(compared: dict[int, Comparison]) -> str:
    return "; ".join(f"depth {depth}: {one.evidence}" for depth, one in compared.items())
