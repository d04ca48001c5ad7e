"""Claims about the number of entries needed for recovery, and the rules that decide them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from dmf_fast.experiments.page.comparison import PAIRED_RULE, less
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.experiments.recovery.completion_grid import GridResults
from dmf_fast.experiments.recovery.entries_runs import NUCLEAR_NORM, errors_by_method
from dmf_fast.experiments.recovery.reconstruction import RECOVERED

_OF_THE_PAPER = "Arora et al. 2019, on matrix completion; the numbers of entries are of this project"


def claims(low: GridResults, high: GridResults) -> list[Claim]:
    """Decide all statements, by the errors on matrices of a lower and of a higher rank."""
    return [
        _only_depth_3_recovers(low),
        _only_depth_3_recovers(high),
        _the_start_decides_at_depth_2(low),
        _hardly_more_than_degrees_of_freedom(high),
        _a_few_more(high),
        _many(low, high),
    ]


def _only_depth_3_recovers(results: GridResults) -> Claim:
    alone, evidence = [], []
    for observed in results.grid.observed:
        errors = errors_by_method(results, observed)
        deep = errors["depth 3"]
        others = {name: found for name, found in errors.items() if "depth 2" in name or name == NUCLEAR_NORM}
        if _recovers(deep) and not any((found < RECOVERED).any() for found in others.values()):
            alone.append(observed)
            least = "; ".join(f"{name} at least {found.min():.2g}" for name, found in others.items())
            evidence.append(f"{_shown(results, observed)}: depth 3 at most {deep.max():.2g}; {least}")
    return Claim(
        f"There are numbers of observed entries from which depth 3 recovers a matrix of rank "
        f"{results.grid.rank}, and neither depth 2 nor the nuclear norm does.",
        _OF_THE_PAPER,
        f"At one number of entries at least, the error of depth 3 is below {RECOVERED:g} in every seed, and "
        "those of the nuclear norm and of depth 2, from both scales, in none.",
        verdict(bool(alone)),
        ". ".join(evidence) or f"No such number among {_listed(results.grid.observed)}.",
    )


def _the_start_decides_at_depth_2(results: GridResults) -> Claim:
    grid, worse, better = results.grid, [], []
    small, large = min(grid.init_scales), max(grid.init_scales)
    for observed in grid.observed:
        errors = errors_by_method(results, observed)
        convex = errors[NUCLEAR_NORM]
        if _recovers(convex):
            continue  # both have recovered: the better digits mean nothing
        if less("", convex, "", errors["depth 2"]).holds:
            worse.append(observed)
        if less("", errors[f"depth 2 from {small:g}"], "", convex).holds:
            better.append(observed)
    both = [observed for observed in worse if observed in better]
    return Claim(
        "At depth 2 the start decides: from the larger scale gradient descent has a larger error than "
        "nuclear-norm minimization, from the smaller one a smaller error.",
        OWN,
        "At one number of entries at least, from which the nuclear norm does not recover every seed, its "
        f"error is below that of depth 2 from {large:g} and above that of depth 2 from {small:g}, both "
        f"{PAIRED_RULE}.",
        verdict(bool(both)),
        f"Rank {grid.rank}: from {large:g} its error is larger at {_listed(worse)}; from {small:g} smaller "
        f"at {_listed(better)}; both at {_listed(both)}.",
    )


def _hardly_more_than_degrees_of_freedom(results: GridResults) -> Claim:
    grid = results.grid
    errors = errors_by_method(results, grid.few)
    least = {name: float(found.min()) for name, found in errors.items()}
    names = [f"depth {depth}" for depth in sorted(grid.depths)]
    order = [less(one, errors[one], deeper, errors[deeper]) for one, deeper in pairwise(names)]
    return Claim(
        "From hardly more entries than degrees of freedom no method recovers the matrix, and deeper "
        "factorizations have larger errors.",
        OWN,
        f"From {_shown(results, grid.few)}, rank {grid.rank}, no method has an error below {RECOVERED:g} in "
        f"any seed, and the error of every depth is below that of the next, {PAIRED_RULE}.",
        verdict(min(least.values()) >= RECOVERED and all(comparison.holds for comparison in order)),
        f"Least errors: {_numbers(least)}. " + "; ".join(comparison.evidence for comparison in order),
    )


def _a_few_more(results: GridResults) -> Claim:
    grid = results.grid
    more = sorted(grid.observed)[1:]
    deep = {observed: errors_by_method(results, observed)["depth 3"] for observed in more}
    convex = errors_by_method(results, more[0])[NUCLEAR_NORM]
    return Claim(
        f"From {_shown(results, more[0])} on depth 3 recovers a matrix of rank {grid.rank}, and there the "
        "nuclear norm does not.",
        OWN,
        f"From each of {_listed(more)} the error of depth 3 is below {RECOVERED:g} in every seed, "
        f"and from {more[0]:,} that of the nuclear norm in none.",
        verdict(all(map(_recovers, deep.values())) and bool((convex >= RECOVERED).all())),
        "Depth 3: "
        + "; ".join(
            f"from {_shown(results, observed)} {(found < RECOVERED).sum()} of {len(found)} seeds, largest "
            f"error {found.max():.2g}"
            for observed, found in deep.items()
        )
        + f". Nuclear norm from {more[0]:,}: {convex.min():.2g} to {convex.max():.2g}.",
    )


def _many(low: GridResults, high: GridResults) -> Claim:
    errors = {
        f"{name}, rank {results.grid.rank}": found
        for results in (low, high)
        for name, found in errors_by_method(results, results.grid.many).items()
    }
    where = " and ".join(f"{_shown(one, one.grid.many)} (rank {one.grid.rank})" for one in (low, high))
    return Claim(
        "From many entries all methods recover the matrix.",
        _OF_THE_PAPER,
        f"From {where} the largest error over the seeds is below {RECOVERED:g} for every method.",
        verdict(all(_recovers(found) for found in errors.values())),
        _numbers({name: float(found.max()) for name, found in errors.items()}) + ".",
    )


def _recovers(errors: np.ndarray) -> bool:
    """Return whether the matrix is recovered in every seed."""
    return bool((errors < RECOVERED).all())


def _numbers(by_name: dict[str, float]) -> str:
    return "; ".join(f"{name} {number:.2g}" for name, number in by_name.items())


def _shown(results: GridResults, observed: int) -> str:
    return f"{observed:,} entries ({observed / results.grid.degrees_of_freedom:.2f} per degree of freedom)"


def _listed(counts: Iterable[int]) -> str:
    shown = [f"{count:,}" for count in counts]
    return ", ".join(shown) + " entries" if shown else "no number of entries"
