"""Claims of incremental learning about matrix sensing, and the rules that decide them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dmf_fast.experiments.dynamics.incremental_runs import INIT_SCALES, RANK, SensingProblem
from dmf_fast.experiments.page.comparison import PAIRED_RULE, extent, less
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict

_NEAR, _AT_THE_END, _SAME = 0.05, 0.01, 1e-6
_SOURCE = "Jin, Li, Lyu, Du & Lee 2023, abstract"


def claims(problems: Sequence[SensingProblem]) -> list[Claim]:
    """Decide all claims from the runs of all seeds."""
    return [
        passes_by(problems),
        passes_by_when_narrow(problems),
        closer_from_smaller(problems),
        not_the_truncation(problems),
        recovers(problems),
    ]


def passes_by(problems: Sequence[SensingProblem]) -> Claim:
    """Return the claim that a run passes by the best solutions of ranks 1, 2, … in this order."""
    last = [problem.wide()[-1] for problem in problems]
    distances = [[run.least(rank) for rank in range(1, 1 + RANK)] for run in last]
    in_order = [
        all(before < after for before, after in pairwise(run.nearest(rank) for rank in range(1, 1 + RANK)))
        for run in last
    ]
    return Claim(
        "From a small start gradient descent finds near solutions of ranks 1, 2, 3, one after the other.",
        _SOURCE,
        f"From the smallest start, in every seed: the least distance to every W_s is at most {_NEAR:.0%} of "
        "its norm, and it is there later the larger s.",
        verdict(bool(np.max(distances) <= _NEAR) and all(in_order)),
        f"Least distances {extent(distances)}; in order in {sum(in_order)} of {len(last)} seeds.",
    )


def passes_by_when_narrow(problems: Sequence[SensingProblem]) -> Claim:
    """Return the claim that this also holds for narrow factors, which cannot fit."""
    distances = [
        run.least(rank) for problem in problems for run in problem.narrow() for rank in range(1, run.width)
    ]
    disagreement = np.array([problem.disagreement for problem in problems])
    return Claim(
        "Factors that are too narrow to fit, or just as wide as the rank, find near solutions of all ranks "
        "below their width, too.",
        f"{_SOURCE}: the under-parameterized regime",
        f"From the smallest start, with factors of widths 2 and {RANK}, in every seed: the least distance "
        f"to every W_s of a smaller rank than the width is at most {_NEAR:.0%} of its norm. W_s is where "
        f"factors of width s end, from another start as well, within {_SAME:g} of its norm.",
        verdict(all(one <= _NEAR for one in distances) and bool((disagreement <= _SAME).all())),
        f"Least distances {extent(distances)}; ends from both starts differ by "
        f"{disagreement.max():.1g} at most.",
    )


def closer_from_smaller(problems: Sequence[SensingProblem]) -> Claim:
    """Return the claim that runs come closer from smaller starts."""
    compared = [
        less(
            f"from {small:g}",
            _least(problems, after, rank),
            f"from {large:g}",
            _least(problems, before, rank),
        )
        for rank in range(1, RANK)
        for (before, large), (after, small) in pairwise(enumerate(INIT_SCALES))
    ]
    medians = [
        f"W_{rank}: "
        + ", ".join(
            f"{np.median(_least(problems, place, rank)):.2g} from {scale:g}"
            for place, scale in enumerate(INIT_SCALES)
        )
        for rank in range(1, RANK)
    ]
    return Claim(
        "The smaller the start, the closer gradient descent comes to the best solutions of lower rank.",
        f"{OWN}, after Jin et al. 2023, who speak of small starts",
        "For every W_s below the full rank, the least distance falls with every step to a smaller start, "
        f"{PAIRED_RULE}.",
        verdict(all(one.holds for one in compared)),
        f"{sum(one.holds for one in compared)} of {len(compared)} comparisons hold; medians "
        f"{'; '.join(medians)}.",
    )


def not_the_truncation(problems: Sequence[SensingProblem]) -> Claim:
    """Return the claim that the solutions are those of the measurements, not of the measured matrix."""
    compared = [
        less(
            f"run to W_{rank}",
            _least(problems, -1, rank),
            f"truncated matrix to W_{rank}",
            [problem.truncation[rank - 1] for problem in problems],
        )
        for rank in range(1, RANK)
    ]
    return Claim(
        "What gradient descent passes by are the best solutions of the measurements, not the best "
        "approximations of the matrix.",
        f"{OWN}, after Jin et al. 2023, conclusion: near-optimal solutions of increasing ranks",
        "For every W_s below the full rank, the least distance from the smallest start is smaller than that "
        f"of the best approximation of rank s of the measured matrix, {PAIRED_RULE}.",
        verdict(all(one.holds for one in compared)),
        "; ".join(one.evidence for one in compared),
    )


def recovers(problems: Sequence[SensingProblem]) -> Claim:
    """Return the claim that the measured matrix is recovered in the end."""
    # W_RANK is the measured matrix, which its own rank's factors fit.
    ends = [float(problem.wide()[-1].distances[-1, -1] + problem.truncation[-1]) for problem in problems]
    return Claim(
        "In the end gradient descent from a small start recovers the measured matrix.",
        _SOURCE,
        f"From the smallest start, in every seed, the distance to the matrix is at most {_AT_THE_END:.0%} of "
        "its norm at the end.",
        verdict(all(end <= _AT_THE_END for end in ends)),
        f"Distances {extent(ends)}.",
    )


def _least(problems: Sequence[SensingProblem], place: int, rank: int) -> list[float]:
    """Return the least distances to W_rank of all seeds, of the run from one of `INIT_SCALES`."""
    return [problem.wide()[place].least(rank) for problem in problems]
