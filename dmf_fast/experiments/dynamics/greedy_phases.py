"""The phases of runs, compared with what greedy low-rank learning predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dmf_fast.chain import chain_product
from dmf_fast.experiments.page.comparison import extent
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.experiments.running.columns import column
from dmf_fast.training import TrialResult

_SOURCE = "Li, Luo & Lyu 2021"


@dataclass(frozen=True)
class GreedyPhase:
    """The phase of a run that fits with rank ``rank``, which ends when the next singular value rises.

    Attributes:
        depth, init_scale, seed: of the run.
        rank: r.
        progress: σ_r over its end, at the last row before σ_{r+1} reaches a tenth of its own end.
        distance: the smallest ‖W − W_r‖_F / ‖W_r‖_F.
        loss_ratio: the ratio of the loss there to that of W_r.

    """

    depth: int
    init_scale: float
    seed: int
    rank: int
    progress: float
    distance: float
    loss_ratio: float


def phases_of(run: TrialResult, narrow: Sequence[TrialResult]) -> list[GreedyPhase]:
    """Return all phases of a run but the last; ``narrow`` are the runs that end at W_1 and W_2.

    The run records its distance to W_1 as ``reconstruction_mse`` and that to W_2 as ``test_rmse``.
    """
    labels = run.trial.labels
    depth, init_scale, seed = int(labels["depth"]), float(labels["init_scale"]), int(labels["seed"])
    distances = (np.sqrt(measured(run, "reconstruction_mse")), measured(run, "test_rmse"))
    phases = []
    for rank, (solution, distance) in enumerate(zip(narrow, distances, strict=True), start=1):
        values, following = (measured(run, f"singular_value_{place}") for place in (rank, rank + 1))
        before = max(0, int(np.argmax(following >= 0.1 * following[-1])) - 1)
        closest = int(np.argmin(distance))
        size = chain_product(solution.factors).square().mean().sqrt().item()
        progress = float(values[before] / values[-1])
        loss_ratio = float(measured(run, "train_loss")[closest] / measured(solution, "train_loss")[-1])
        least = float(distance[closest]) / size
        phases.append(GreedyPhase(depth, init_scale, seed, rank, progress, least, loss_ratio))
    return phases


def measured(run: TrialResult, name: str) -> np.ndarray:
    """Return a column of the history of a run, ``(rows,)``; NaN if not measured."""
    return column(run.result.history.table, name)


def over_seeds(phases: Sequence[GreedyPhase]) -> dict[tuple[int, int], dict[float, list[GreedyPhase]]]:
    """Return the phases of all seeds by depth and rank, then by scale, the largest scale first."""
    groups: dict[tuple[int, int], dict[float, list[GreedyPhase]]] = {}
    for phase in sorted(phases, key=lambda phase: (phase.depth, phase.rank, -phase.init_scale, phase.seed)):
        groups.setdefault((phase.depth, phase.rank), {}).setdefault(phase.init_scale, []).append(phase)
    return groups


def claims(phases: Sequence[GreedyPhase]) -> list[Claim]:
    """Return all claims."""
    rules = (rank_by_rank, near_solutions, closer_from_smaller, closer_when_deeper)
    return [rule(phases) for rule in rules]


def rank_by_rank(phases: Sequence[GreedyPhase]) -> Claim:
    """Return the claim that singular values rise one after the other."""
    progress = [phase.progress for phase in _from_smallest(phases)]
    return Claim(
        "From a tiny start the singular values are learned one after the other.",
        _SOURCE,
        "From the smallest start of every depth, for every seed and r = 1, 2: at the last row before "
        "σ_(r+1) reaches 10% of its end, σ_r is within 10% of its own end.",
        verdict(all(abs(share - 1) <= 0.1 for share in progress)),
        f"σ_r has come to {min(progress):.1%} to {max(progress):.1%} of its end in {len(progress)} phases.",
    )


def near_solutions(phases: Sequence[GreedyPhase]) -> Claim:
    """Return the claim that phases end near the solutions of their ranks."""
    smallest = _from_smallest(phases)
    distances, ratios = [phase.distance for phase in smallest], [phase.loss_ratio for phase in smallest]
    return Claim(
        "The runs pass by the solutions W_1 and W_2 of greedy low-rank learning.",
        _SOURCE,
        "From the smallest start of every depth, for every seed and r = 1, 2: the least distance to W_r is "
        "at most 5% of the norm of W_r, and the loss there is within 5% of that of W_r.",
        verdict(all(d <= 0.05 for d in distances) and all(abs(ratio - 1) <= 0.05 for ratio in ratios)),
        f"Least distances {extent(distances)} of the norm, losses there "
        f"{min(ratios):.4f} to {max(ratios):.4f} of that of W_r.",
    )


def closer_from_smaller(phases: Sequence[GreedyPhase]) -> Claim:
    """Return the claim that runs come closer as the start gets smaller."""
    medians = _median_distances(phases)
    falling = [
        all(after < before for before, after in pairwise(by_scale.values())) for by_scale in medians.values()
    ]
    listed = []
    for (depth, rank), by_scale in medians.items():
        distances = ", ".join(f"{distance:.2g} from {scale:g}" for scale, distance in by_scale.items())
        listed.append(f"depth {depth}, W_{rank}: {distances}")
    return Claim(
        "The smaller the start, the closer the runs come to W_1 and W_2.",
        _SOURCE,
        "For every depth and r = 1, 2 the median over the seeds of the least distance to W_r falls with "
        "every step to a smaller start.",
        verdict(all(falling)),
        "; ".join(listed) + ".",
    )


def closer_when_deeper(phases: Sequence[GreedyPhase]) -> Claim:
    """Return the claim that depth 3 comes closer than depth 2 from the same scale."""
    medians = _median_distances(phases)
    ratios = [
        medians[2, rank][scale] / distance
        for rank in (1, 2)
        for scale, distance in medians[3, rank].items()
        if scale in medians[2, rank]
    ]
    return Claim(
        "Depth 3 comes closer than depth 2 to the solutions of greedy low-rank learning, so that a start of "
        "practical size suffices.",
        f"{_SOURCE}, abstract",
        "For r = 1, 2 and every scale that both depths start from, the median over the seeds of the least "
        "distance to W_r is smaller at depth 3.",
        verdict(bool(ratios) and all(ratio > 1 for ratio in ratios)),
        f"Distances at depth 2 are {extent(ratios)} times those at depth 3.",
    )


def _median_distances(phases: Sequence[GreedyPhase]) -> dict[tuple[int, int], dict[float, float]]:
    return {
        key: {
            scale: float(np.median([phase.distance for phase in alike])) for scale, alike in by_scale.items()
        }
        for key, by_scale in over_seeds(phases).items()
    }


def _from_smallest(phases: Sequence[GreedyPhase]) -> list[GreedyPhase]:
    return [phase for by_scale in over_seeds(phases).values() for phase in by_scale[min(by_scale)]]
