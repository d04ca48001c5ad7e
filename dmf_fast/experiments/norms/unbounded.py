"""A completion problem whose fits grow without bound: no norm stays small, but the rank does.

Razin & Cohen, "Implicit Regularization in Deep Learning May Not Be Explainable by Norms" (NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from dmf_fast.experiments.norms.unbounded_claims import (
    bounded_entry,
    falling_rank,
    perturbed_entry,
    unbalanced_starts,
    unbounded_entry,
)
from dmf_fast.experiments.norms.unbounded_pictures import (
    draw_norms_and_rank,
    draw_perturbed,
    draw_random_starts,
)
from dmf_fast.experiments.norms.unbounded_runs import (
    INIT_SCALE,
    LEARNING_RATES,
    LOSS_THRESHOLD,
    Curve,
    Observed,
    TwoByTwo,
)
from dmf_fast.experiments.page.papers import RAZIN
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.page.content import Picture, ResultTable

PERTURBED = (0.0, 0.01, 0.05, 0.1, 0.5)

INTRODUCTION = (
    "W_12 = W_21 = 1 and W_22 = 0 are observed, W_11 is not. With ε = √(3 · train loss), the root of the sum "
    "of the squared residuals, |W_12| and |W_21| are at least 1 − ε and |W_22| is at most ε. Gradient flow "
    "from balanced factors keeps the sign of det W = W_11 W_22 − W_12 W_21. While it is positive and ε < 1, "
    "|W_11| > (1 − ε)² / ε: the unobserved entry, and with it every norm, goes to infinity as the loss goes "
    "to zero, and the distance to rank 1 goes to zero, σ_2 = det W / σ_1 < |W_11 W_22| / |W_11| ≤ ε. From "
    "other starts, or with a determinant of the other sign, nothing of this follows."
)


def run(reproduction: Reproduction) -> Section:
    """Descend from determinants of both signs at depths 2 to 4; raise `KeyboardInterrupt` after Ctrl-C."""
    quick = reproduction.quick
    steps, fewer_steps = (600_000, 100_000) if quick else (1_500_000, 500_000)
    problems = dict.fromkeys(original(quick=quick), steps) | dict.fromkeys(
        perturbed(quick=quick), fewer_steps
    )
    trials = [problem.trial(most) for problem, most in problems.items()]
    ended = run_trials(trials, reproduction, "norms")
    curves = [Curve.of(*pair) for pair in zip(problems, ended.results, strict=True)]
    growing, resting, others_growing, others_resting = (
        _balanced(curves, is_original=is_original, grows=grows)
        for is_original in (True, False)
        for grows in (True, False)
    )
    random = [curve for curve in curves if curve.problem.start == "random"]
    return Section(
        title="Fitting without bound: norms against rank",
        paper=RAZIN,
        introduction=INTRODUCTION,
        settings=_settings(steps, fewer_steps, quick=quick),
        claims=[
            unbounded_entry(growing),
            falling_rank(growing),
            bounded_entry(resting + [curve for curve in others_resting if not curve.problem.observed.w_22]),
            perturbed_entry(others_growing),
            unbalanced_starts(random, growing),
        ],
        figures=[
            Picture.of(
                draw_norms_and_rank(growing, resting),
                "Balanced starts, at most three seeds; dotted: bounds where det W > 0.",
            ),
            Picture.of(
                draw_random_starts(random),
                "Random starts of positive determinant, all seeds; dotted: the bound.",
            ),
            Picture.of(
                draw_perturbed(others_growing),
                "Perturbed values W_12 = −2 and W_21 = 1/2, balanced starts of negative determinant, all "
                "seeds; dotted: the bounds. Runs that rise at a loss of w_22² / 3 have a W_22 of the wrong "
                "sign.",
            ),
        ],
        tables=[ResultTable(_table(curves), "The end of every run.")],
        work=work_of(ended.results),
    )


def original(*, quick: bool) -> Iterable[TwoByTwo]:
    """Return the starts with W_12 = W_21 = 1 and W_22 = 0: balanced ones of both signs and random ones."""
    seeds = range(1 if quick else 5)
    for depth in LEARNING_RATES:
        yield from (TwoByTwo(Observed(), "balanced", depth, sign, seed) for sign in (1, -1) for seed in seeds)
    for depth in (2, 3) if quick else LEARNING_RATES:
        yield from (TwoByTwo(Observed(), "random", depth, 1, seed) for seed in seeds)


def perturbed(*, quick: bool) -> Iterable[TwoByTwo]:
    """Return the balanced starts of both signs with W_12 = −2, W_21 = 1/2 and several W_22."""
    for value in perturbed_values(quick=quick):
        for depth in (2, 3) if quick else LEARNING_RATES:
            for sign in (-1, 1):
                for seed in range(1 if quick else 5):
                    yield TwoByTwo(Observed(-2.0, 0.5, value), "balanced", depth, sign, seed)


def perturbed_values(*, quick: bool) -> tuple[float, ...]:
    """Return the values of W_22 next to W_12 = −2 and W_21 = 1/2."""
    return PERTURBED[::2] if quick else PERTURBED


def _balanced(curves: Sequence[Curve], *, is_original: bool, grows: bool) -> list[Curve]:
    """Return the curves from balanced starts; the original problem is W_12 = W_21 = 1 and W_22 = 0."""
    return [
        curve
        for curve in curves
        if curve.problem.start == "balanced"
        and (curve.problem.observed == Observed()) == is_original
        and curve.problem.grows == grows
    ]


def _settings(steps: int, fewer_steps: int, *, quick: bool) -> dict[str, str]:
    return {
        "observed": "W_12 = W_21 = 1 and W_22 = 0 of a 2 × 2 matrix; perturbed: W_12 = −2, W_21 = 1/2 "
        f"and W_22 among {', '.join(f'{value:g}' for value in perturbed_values(quick=quick))}",
        "balanced start": f"eigenvalues of W ±{INIT_SCALE / 2:g} to ±{INIT_SCALE * 1.5:g}",
        "random start": "Gaussian entries, of standard deviation 8e-3 at depth 3 as in the authors' "
        "public code, and the same size of the product at other depths",
        "learning rates": ", ".join(f"{lr:g} at depth {depth}" for depth, lr in LEARNING_RATES.items()),
        "steps": f"{steps:,}, perturbed {fewer_steps:,}, or to a train loss of {LOSS_THRESHOLD:g}",
        "seeds": str(len({problem.seed for problem in original(quick=quick)})),
    }


def _table(curves: Iterable[Curve]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "W_12": curve.problem.observed.w_12,
                "W_21": curve.problem.observed.w_21,
                "W_22": curve.problem.observed.w_22,
                "start": curve.problem.start,
                "depth": curve.problem.depth,
                "sign of det W": curve.problem.determinant,
                "seed": curve.problem.seed,
                "steps": curve.steps,
                "train loss": float(curve.loss[-1]),
                "|W_11|": float(curve.entry[-1]),
                "σ_2": float(curve.distance[-1]),
                "effective rank": float(curve.effective_rank[-1]),
                "det W": curve.last_determinant,
            }
            for curve in curves
        ]
    )
