"""Claims about connected and disconnected entries, decided by the ends of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.experiments.page.comparison import PAIRED_RULE, extent, less
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.training import TrialResult

SOURCE = "Bai, Zhao & Zhang 2024, abstract and figure 1"
LEAST = 0.001
FITTED = 1e-6
PRECISION = 1e-5

_BLOCKS = np.kron(np.eye(2, dtype=bool), np.ones((2, 2), dtype=bool))


def _changed(entry: tuple[int, int]) -> NDArray[np.bool_]:
    pattern = _BLOCKS.copy()
    pattern[entry] ^= True
    return pattern


INCOMPLETE, COMPLETE, CONNECTED = "incomplete blocks", "complete blocks", "connected"
PATTERNS = {INCOMPLETE: _changed((3, 3)), COMPLETE: _BLOCKS, CONNECTED: _changed((0, 3))}
"""Observed entries of a 4 × 4 matrix: two blocks without one entry, two blocks, and two blocks plus one."""


@dataclass(frozen=True)
class Completion:
    """The end of a run.

    Attributes:
        rank: ``r``, of the matrix, the least of all completions of `COMPLETE` and `CONNECTED`.
        pattern: a key of `PATTERNS`.
        init_scale, seed: of the start.
        loss: mean squared residual.
        excess_value: ``σ_{r+1} / σ_1``.
        nuclear_excess: by how much the nuclear norm exceeds the least one of all completions, over that one,
            and no less than the precision of that one.

    """

    rank: int
    pattern: str
    init_scale: float
    seed: int
    loss: float
    excess_value: float
    nuclear_excess: float

    @staticmethod
    def of(one: TrialResult, product: Tensor, least_nuclear_norm: float) -> Completion:
        """Return the completion of a trial, given the final product of its factors."""
        labels, values = one.trial.labels, torch.linalg.svdvals(product)
        rank = int(labels["rank"])
        return Completion(
            rank,
            str(labels["pattern"]),
            float(labels["init_scale"]),
            int(labels["seed"]),
            one.result.history["train_loss"][-1],
            float(values[rank] / values[0]),
            max(float(values.sum()) / least_nuclear_norm - 1, PRECISION),
        )


def select(completions: Sequence[Completion], pattern: str, **labels: float) -> list[Completion]:
    """Return the completions of a pattern that have the labels, by rank and seed.

    >>> one = Completion(1, COMPLETE, 1e-2, 0, 0.0, 0.1, 1.0)
    >>> len(select([one], COMPLETE, rank=1)), len(select([one], COMPLETE, rank=2))
    (1, 0)
    """
    found = [one for one in completions if one.pattern == pattern]
    found = [one for one in found if all(getattr(one, name) == value for name, value in labels.items())]
    return sorted(found, key=lambda one: (one.rank, one.seed))


def claims(completions: Sequence[Completion]) -> list[Claim]:
    """Decide all claims, from the largest and the smallest start."""
    return [disconnected(completions), connected(completions), transition(completions)]


def disconnected(completions: Sequence[Completion]) -> Claim:
    """Return the claim that complete blocks lead to the least nuclear norm, at the cost of rank."""
    ended, ratios = _from_the_smallest(completions, COMPLETE)
    excess = [one.nuclear_excess for one in ended]
    return Claim(
        "From complete blocks, which are disconnected, the completion has the least nuclear norm, and it "
        "does not approach the least rank.",
        SOURCE,
        f"From the smallest start every run is fitted to {FITTED:g}, the nuclear norm exceeds the least one "
        f"by at most {LEAST:g} of it, and σ_(r+1) / σ_1 is at least half of what it is from the largest "
        "start.",
        verdict(
            _fitted(ended)
            and all(value <= LEAST for value in excess)
            and all(ratio >= 0.5 for ratio in ratios)
        ),
        f"From {ended[0].init_scale:g}, {len(ended)} runs: excess of the nuclear norm at most "
        f"{max(excess):.1g}; σ_(r+1) / σ_1 {extent(ratios)} times that from the "
        f"largest start; losses at most {max(one.loss for one in ended):.1g}.",
    )


def connected(completions: Sequence[Completion]) -> Claim:
    """Return the claim that connected entries lead to the least rank."""
    ended, ratios = _from_the_smallest(completions, CONNECTED)
    excess = [one.nuclear_excess for one in ended]
    return Claim(
        "With one entry more, which connects the blocks, the completion approaches the least rank.",
        SOURCE,
        f"From the smallest start every run is fitted to {FITTED:g}, and σ_(r+1) / σ_1 is at most a tenth of "
        "what it is from the largest start.",
        verdict(_fitted(ended) and all(ratio <= 0.1 for ratio in ratios)),
        f"From {ended[0].init_scale:g}, {len(ended)} runs: σ_(r+1) / σ_1 at most {max(ratios):.2g} times "
        f"that from the largest start, itself at most {max(one.excess_value for one in ended):.2g}; losses "
        f"at most {max(one.loss for one in ended):.1g}; excess of the nuclear norm {extent(excess)}.",
    )


def transition(completions: Sequence[Completion]) -> Claim:
    """Return the claim that the entry trades one for the other, from pairs of the same matrix."""
    compared = []
    for rank in sorted({one.rank for one in completions}):
        apart, joined = (
            _from_the_smallest([one for one in completions if one.rank == rank], pattern)[0]
            for pattern in (COMPLETE, CONNECTED)
        )
        low_rank = less(
            f"rank {rank}, σ_(r+1) / σ_1: {CONNECTED}",
            [one.excess_value for one in joined],
            COMPLETE,
            [one.excess_value for one in apart],
        )
        low_norm = less(
            f"rank {rank}, excess of the nuclear norm: {COMPLETE}",
            [one.nuclear_excess for one in apart],
            CONNECTED,
            [one.nuclear_excess for one in joined],
        )
        compared += [low_rank, low_norm]
    return Claim(
        "The entry that connects two complete blocks exchanges low nuclear norm for low rank.",
        SOURCE,
        "From the smallest start, at every rank, σ_(r+1) / σ_1 is smaller than without that entry, and the "
        f"excess of the nuclear norm is larger (excesses below {PRECISION:g} count as {PRECISION:g}), both "
        f"{PAIRED_RULE}.",
        verdict(all(one.holds for one in compared)),
        "; ".join(one.evidence for one in compared),
    )


def _from_the_smallest(
    completions: Sequence[Completion], pattern: str
) -> tuple[list[Completion], list[float]]:
    """Return the completions from the smallest start, and ``σ_{r+1} / σ_1`` over that from the largest."""
    scales = {one.init_scale for one in completions}
    small, large = (select(completions, pattern, init_scale=of(scales)) for of in (min, max))
    return small, [one.excess_value / other.excess_value for one, other in zip(small, large, strict=True)]


def _fitted(ended: Sequence[Completion]) -> bool:
    return all(one.loss <= FITTED for one in ended)
