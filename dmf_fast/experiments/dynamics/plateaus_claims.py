"""Claims about plateaus of the effective rank, and the rules that decide them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dmf_fast.experiments.dynamics.plateaus_measures import (
    NEAR,
    Plateau,
    largest_fall,
    over_seeds,
    predicted_length,
    rank_path,
)
from dmf_fast.experiments.page.comparison import PAIRED_RULE, extent, less
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.training import TrialResult

_LEAST_FLAT = 0.1
_NONE = 1e-3
_FALL = 0.01
_GROWTH = 0.1
STARTS = {"identity": "multiples of the identity", "gaussian": "Gaussian factors"}
"""The kinds of start, with their names on the page."""

_SOURCE = "Chou, Gieshoff, Maly & Rauhut 2020, abstract"


def claims(runs: Sequence[TrialResult], plateaus: Sequence[Plateau]) -> list[Claim]:
    """Decide all claims about plateaus."""
    deep = [plateau for plateau in plateaus if plateau.depth >= 2]
    return [
        near_projections(deep),
        ranks_climb([one for one in runs if int(one.trial.labels["depth"]) >= 2]),
        none_at_depth_1([plateau for plateau in plateaus if plateau.depth == 1]),
        lengths_grow(deep),
        flatter_when_deeper(deep),
        larger_share_when_deeper(deep),
    ]


def near_projections(plateaus: Sequence[Plateau]) -> Claim:
    """Return the claim that the effective rank stays near those of best approximations of low rank."""
    flat = [plateau.flat for plateau in from_smallest(plateaus)]
    return Claim(
        "There are times in which the effective rank is near that of a best approximation of lower rank.",
        _SOURCE,
        "From the smallest start of every depth from 2 on, of both kinds, in every seed and for every rank L "
        f"below the full one: the effective rank is within {NEAR:.0%} of that of the approximation for at "
        f"least {_LEAST_FLAT:.0%} of the length of the plateau, the time from when σ_L reaches half of its "
        "final value to when σ_(L+1) does.",
        verdict(all(part >= _LEAST_FLAT for part in flat)),
        f"{len(flat)} plateaus: near for {np.min(flat):.0%} of the length at least, {np.median(flat):.0%} in "
        "the median.",
    )


def ranks_climb(runs: Sequence[TrialResult]) -> Claim:
    """Return the claim that the effective rank rises throughout, except at the start."""
    falls: dict[str, list[float]] = {}
    for one in runs:
        start, depth, scale = (one.trial.labels[name] for name in ("start", "depth", "init_scale"))
        if scale == min(
            other.trial.labels["init_scale"] for other in runs if other.trial.labels["depth"] == depth
        ):
            falls.setdefault(str(start), []).append(largest_fall(rank_path(one)[1]))
    return Claim(
        f"Except at the start of the run, the effective rank rises throughout, to within {_FALL:.0%}.",
        _SOURCE,
        "From the smallest start of every depth from 2 on, of both kinds, in every seed: after its least "
        f"value the effective rank is never more than {_FALL:.0%} below what it has come to.",
        verdict(bool(falls) and all(fall <= _FALL for some in falls.values() for fall in some)),
        "; ".join(f"{STARTS[start]}: largest fall {np.max(some):.2%}" for start, some in falls.items()),
    )


def none_at_depth_1(plateaus: Sequence[Plateau]) -> Claim:
    """Return the claim that depth 1 has no plateaus below the full rank."""
    lengths = [plateau.length for plateau in plateaus]
    return Claim(
        "At depth 1 the effective rank has no plateaus: all singular values grow together.",
        f"{OWN}, as a contrast",
        f"From both kinds of start and in every seed, no plateau is longer than {_NONE:g}, of a run of a "
        "few units of time.",
        verdict(all(length <= _NONE for length in lengths)),
        f"Lengths {extent(lengths)}.",
    )


def lengths_grow(plateaus: Sequence[Plateau]) -> Claim:
    """Return the claim that lengths grow with the scale as the closed form says."""
    growths = {
        (start, depth): [
            (growth(by_scale), growth({scale: [predicted_length(rank, scale, depth)] for scale in by_scale}))
            for (of_depth, rank), by_scale in over_seeds(plateaus, start, "length").items()
            if of_depth == depth
        ]
        for start in STARTS
        for depth in sorted({plateau.depth for plateau in plateaus})
    }
    errors = [abs(found / said - 1) for pairs in growths.values() for found, said in pairs]
    return Claim(
        "As the start gets smaller, plateaus get longer: with the logarithm of the scale at depth 2, with "
        "its power −(1 − 2/N) at larger depths.",
        f"{OWN}, after the closed form of the trajectories and the abstract of Gissin, Shalev-Shwartz & "
        "Daniely 2020: starts must be exponentially small at depth 2, polynomially in deeper chains",
        "From the second smallest start to the smallest, of both kinds, at every depth from 2 on and for "
        "every rank below the full one, the length of the plateau grows by the factor of the closed form, "
        f"within {_GROWTH:.0%}; medians over the seeds.",
        verdict(all(error <= _GROWTH for error in errors)),
        "; ".join(
            f"{STARTS[start]}, depth {depth}: {extent([found for found, _ in pairs])} times, by the closed "
            f"form {extent([said for _, said in pairs])}"
            for (start, depth), pairs in growths.items()
        ),
    )


def flatter_when_deeper(plateaus: Sequence[Plateau]) -> Claim:
    """Return the claim that plateaus are flatter in deeper chains, from starts of one scale."""
    parts: dict[tuple[int, float], dict[tuple[str, int, int], float]] = {}
    for one in plateaus:
        parts.setdefault((one.depth, one.init_scale), {})[one.start, one.rank, one.seed] = one.flat
    holds: dict[tuple[int, int], dict[float, bool]] = {}
    for (depth, scale), flat in sorted(parts.items()):
        if deeper := parts.get((depth + 1, scale)):
            holds.setdefault((depth, depth + 1), {})[scale] = all(
                _flatter(flat, deeper, start, rank) for start, rank in {key[:2] for key in flat}
            )
    return Claim(
        "The deeper the chain, the flatter the plateaus from starts of one scale, so that larger starts "
        "suffice.",
        f"{OWN}, after Gissin, Shalev-Shwartz & Daniely 2020 and Li, Luo & Lyu 2021",
        "From the smallest scale that a depth and the next one both start from, for both kinds of start and "
        "for every rank L below the full one: the part of the length in which the effective rank is not "
        f"within {NEAR:.0%} of that of the best approximation is smaller in the deeper chain, "
        f"{PAIRED_RULE}.",
        verdict(bool(holds) and all(by_scale[min(by_scale)] for by_scale in holds.values())),
        "; ".join(
            f"depth {upper} compared with {lower}: from "
            f"{', '.join(f'{scale:g}' for scale in by_scale if by_scale[scale]) or 'none'} of "
            f"{', '.join(f'{scale:g}' for scale in by_scale)}"
            for (lower, upper), by_scale in holds.items()
        ),
    )


def larger_share_when_deeper(plateaus: Sequence[Plateau]) -> Claim:
    """Return the claim that plateaus take more of the time in deeper chains, from starts of one scale."""
    lengths: dict[tuple[int, float, str], dict[int, list[Plateau]]] = {}
    for one in plateaus:
        lengths.setdefault((one.depth, one.init_scale, one.start), {}).setdefault(one.seed, []).append(one)
    rests = {
        key: [
            1 - sum(one.length for one in run) / max(one.end for one in run)
            for _, run in sorted(runs.items())
        ]
        for key, runs in lengths.items()
    }
    compared = {
        (depth, scale, start): less("", rests[depth + 1, scale, start], "", rest).holds
        for (depth, scale, start), rest in sorted(rests.items())
        if (depth + 1, scale, start) in rests
    }
    return Claim(
        "The deeper the chain, the larger the part of the time that plateaus take.",
        OWN,
        "From every scale that a depth and the next one both start from, for both kinds of start: of the "
        "time until the last singular value reaches half of its final value, the part in no plateau is "
        f"smaller in the deeper chain, {PAIRED_RULE}.",
        verdict(bool(compared) and all(compared.values())),
        f"In {sum(compared.values())} of {len(compared)} comparisons. Parts in plateaus: "
        + "; ".join(
            f"depth {depth}, {STARTS[start]}, from {scale:g}: {1 - np.median(rest):.0%}"
            for (depth, scale, start), rest in sorted(rests.items())
        ),
    )


def from_smallest(plateaus: Sequence[Plateau]) -> list[Plateau]:
    """Return the plateaus from the smallest scale of every depth."""
    smallest = {
        depth: min(one.init_scale for one in plateaus if one.depth == depth)
        for depth in {one.depth for one in plateaus}
    }
    return [one for one in plateaus if one.init_scale == smallest[one.depth]]


def growth(by_scale: Mapping[float, Sequence[float]]) -> float:
    """Return the median at the smallest scale over that at the next one.

    >>> growth({0.1: [1.0, 2.0, 3.0], 0.01: [5.0, 6.0, 8.0]})
    3.0
    """
    smallest, next_one = sorted(by_scale)[:2]
    return float(np.median(by_scale[smallest]) / np.median(by_scale[next_one]))


def _flatter(
    flat: Mapping[tuple[str, int, int], float],
    deeper: Mapping[tuple[str, int, int], float],
    start: str,
    rank: int,
) -> bool:
    keys = sorted(key for key in flat if key[:2] == (start, rank))
    return less("", [1 - deeper[key] for key in keys], "", [1 - flat[key] for key in keys]).holds
