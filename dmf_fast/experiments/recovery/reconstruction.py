"""Claims of Arora et al. about reconstruction errors, for completion and for sensing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from dmf_fast.experiments.page.comparison import PAIRED_RULE, less
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.figure_style import DEPTH_STYLES, NUCLEAR_NORM_STYLE, draw_spread

Row = dict[str, int | float | str]


RECOVERED = 1e-3
"""A matrix counts as recovered below this mean squared error of entries, whose mean square is 1."""


@dataclass(frozen=True)
class ReconstructionErrors:
    """Mean squared errors over all entries; every array is ``(seeds,)``.

    Attributes:
        data: what the matrix is reconstructed from, such as ``"observed entries"``.
        few, many: two numbers of them.
        init_scales: the smallest and the largest scale of the initialization.
        by_depth: with few, at the smallest scale.
        from_large_start: with few, at depth 2 and the largest scale.
        convex: with few, of the matrix of least nuclear norm.
        with_many: by method, at the smallest scale.

    """

    data: str
    few: int
    many: int
    init_scales: tuple[float, float]
    by_depth: Mapping[int, np.ndarray]
    from_large_start: np.ndarray
    convex: np.ndarray
    with_many: Mapping[str, np.ndarray]

    @classmethod
    def at(
        cls,
        scale: float,
        data: str,
        counts: tuple[int, int],
        depths: Sequence[int],
        init_scales: Sequence[float],
        of_runs: Callable[[int, int, float], np.ndarray],
        of_convex: Callable[[int], np.ndarray],
    ) -> ReconstructionErrors:
        """Return the errors from one scale, compared with those from the largest of ``init_scales``.

        ``of_runs`` is of a number of data, a depth and a scale, ``of_convex`` of a number of data alone.
        """
        few, many = counts
        largest = max(init_scales)
        return cls(
            data=data,
            few=few,
            many=many,
            init_scales=(scale, largest),
            by_depth={depth: of_runs(few, depth, scale) for depth in depths},
            from_large_start=of_runs(few, 2, largest),
            convex=of_convex(few),
            with_many={f"depth {depth}": of_runs(many, depth, scale) for depth in depths}
            | {"nuclear norm": of_convex(many)},
        )


def decided_at(place: str, by_place: Mapping[str, Sequence[Claim]], places: str) -> list[Claim]:
    """Return the claims as decided at one place, with evidence on how many of the places they hold at.

    ``by_place`` has the same claims for every place; ``places`` is a noun for these, such as ``"scales"``.
    """
    return [
        replace(claim, evidence=f"{claim.evidence}. {_holds_at(number, by_place, places)}")
        for number, claim in enumerate(by_place[place])
    ]


def _holds_at(number: int, by_place: Mapping[str, Sequence[Claim]], places: str) -> str:
    verdicts = {place: claims[number].verdict for place, claims in by_place.items()}
    tested = {place: found for place, found in verdicts.items() if found != "not tested"}
    without = [place for place, found in tested.items() if found != "reproduced"]
    holds = f"It holds at {len(tested) - len(without)} of {len(tested)} {places}"
    return f"{holds}, not at {', '.join(without)}." if without else f"{holds}."


def error_summary(errors: np.ndarray) -> dict[str, float]:
    """Return the columns that tables show for errors, ``(seeds,)``.

    >>> error_summary(np.array([3.0, 1.0, 2.0]))
    {'median error': 2.0, 'least': 1.0, 'largest': 3.0}
    """
    return {
        "median error": float(np.median(errors)),
        "least": float(errors.min()),
        "largest": float(errors.max()),
    }


def error_row(data: str, count: int, method: str, init_scale: str, errors: np.ndarray) -> Row:
    """Return a row of a table of errors, ``(seeds,)``, from ``count`` of the ``data``."""
    return {data: count, "method": method, "initial scale": init_scale, **error_summary(errors)}


def draw_errors(
    axes: Axes, init_scales: Sequence[float], by_depth: Mapping[int, Sequence[np.ndarray]], convex: np.ndarray
) -> None:
    """Draw errors, ``(seeds,)``: one array per depth and scale, and one for the nuclear norm."""
    for depth, errors in by_depth.items():
        draw_spread(axes, init_scales, errors, DEPTH_STYLES[depth], f"depth {depth}")
    draw_spread(axes, init_scales, [convex] * len(init_scales), NUCLEAR_NORM_STYLE, "nuclear norm")
    axes.set(xscale="log", yscale="log")


def reconstruction_claims(errors: ReconstructionErrors, at: str, source: str) -> list[Claim]:
    """Decide the order of depths and nuclear norm; ``at`` names the place in a few words.

    If there is only one scale, a smaller initialization is not tested.
    """
    small, large = errors.init_scales
    few, two = f"{errors.few:,} {errors.data}", errors.by_depth[2]
    deeper = [
        less(f"depth {depth}", deep, "depth 2", two) for depth, deep in errors.by_depth.items() if depth >= 3
    ]
    than_convex = less("depth 2", two, "nuclear norm", errors.convex)
    smaller_start = less(f"scale {small:g}", two, f"scale {large:g}", errors.from_large_start)
    largest = {method: float(values.max()) for method, values in errors.with_many.items()}
    return [
        Claim(
            f"With few {errors.data} ({errors.few:,}) depth 3 or more reconstructs better than depth 2.",
            source,
            f"{at}, the error of every depth from 3 on is below that of depth 2, {PAIRED_RULE}.",
            verdict(all(comparison.holds for comparison in deeper)),
            "; ".join(comparison.evidence for comparison in deeper),
        ),
        Claim(
            f"With few {errors.data} ({errors.few:,}) depth 2 reconstructs better than the nuclear norm.",
            source,
            f"{at}, the error of depth 2 is below that of the matrix of least nuclear norm, {PAIRED_RULE}.",
            verdict(than_convex.holds),
            than_convex.evidence,
        ),
        Claim(
            "At depth 2 a smaller initialization reconstructs better.",
            source,
            f"{at}, with {few}, the error at depth 2 is below that from a scale of {large:g}, {PAIRED_RULE}.",
            verdict(smaller_start.holds) if small < large else "not tested",
            smaller_start.evidence if small < large else f"{large:g} is the largest scale itself.",
        ),
        Claim(
            f"With many {errors.data} ({errors.many:,}) all of them recover the matrix.",
            source,
            f"{at}, the largest error over the seeds is below {RECOVERED:g} for every depth and for the "
            "nuclear norm.",
            verdict(all(error < RECOVERED for error in largest.values())),
            "; ".join(f"{method}: {error:.3g}" for method, error in largest.items()),
        ),
    ]
