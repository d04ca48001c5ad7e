"""Trajectories of singular values: gradient descent compared with theorem 3 of Arora et al. 2019.

If all entries of a matrix are observed and the start commutes with it, every singular value has its own
trajectory in closed form. If only some are observed, theorem 3 predicts the trajectory from its start and
from the gradient along the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from dmf_fast.experiments.dynamics.trajectories_claims import claims, gap_at_half
from dmf_fast.experiments.dynamics.trajectories_pictures import draw_followed, draw_observed
from dmf_fast.experiments.dynamics.trajectories_runs import (
    DIM,
    ENTRIES,
    LOSS_THRESHOLD,
    OBSERVED_DIM,
    OBSERVED_RATES,
    OBSERVED_SCALE,
    RANK,
    RATES,
    SCALE,
    TARGETS,
    SingularValuePaths,
    follow,
    followed_paths,
    followed_trial,
    observed_paths,
    observed_trial,
)
from dmf_fast.experiments.page.papers import ARORA
from dmf_fast.experiments.page.section import Section, Work
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.page.content import ResultTable
from dmf_fast.threads import threads_kept, use_one_thread

INTRODUCTION = (
    "Theorem 3 gives the velocity of a singular value at a moment; integrated, it gives the whole path. "
    "Where everything is observed and the start is a multiple of the identity, the path is known before the "
    "run: at depth 1 all singular values keep their proportions, at larger depths the largest is all but "
    "complete before the next one has begun. Where a part is observed, the prediction takes from the run "
    "only ⟨∇ℓ(W), u_r v_rᵀ⟩ at every moment, and the singular values at the start. Lines are predictions, "
    "dots gradient descent, which follows gradient flow to the first order of the learning rate."
)


def run(reproduction: Reproduction) -> Section:
    """Follow singular values at depths 1 to 4; raise `KeyboardInterrupt` after Ctrl-C."""
    seeds = range(1) if reproduction.quick else range(5)
    trials = [followed_trial(depth, seed) for depth in RATES for seed in seeds]
    # More threads slow down matrices of this size.
    with threads_kept():
        use_one_thread()
        ended = run_trials([observed_trial(depth) for depth in OBSERVED_RATES], reproduction, "trajectories")
        followed = [followed_paths(trial, follow(trial, reproduction)) for trial in trials]
    observed = observed_paths(ended.results)
    return Section(
        title="Trajectories: whole paths of singular values",
        paper=ARORA,
        introduction=INTRODUCTION,
        settings=_settings(seeds),
        claims=claims(observed, followed),
        figures=[draw_observed(observed), draw_followed([paths for paths in followed if paths.seed == 0])],
        tables=[
            ResultTable(_table(observed, TARGETS), "Everything observed."),
            ResultTable(_table(followed), "A part observed; the largest errors over the seeds."),
        ],
        work=[
            *work_of(ended.results),
            *(Work("completion", (DIM,) * (one.depth + 1), ENTRIES, one.steps) for one in followed),
        ],
    )


def _settings(seeds: range) -> dict[str, str]:
    return {
        "everything observed": f"symmetric {OBSERVED_DIM} × {OBSERVED_DIM}, singular values "
        f"{' and '.join(map('{:g}'.format, TARGETS))}; start {OBSERVED_SCALE:g} times the identity; "
        f"learning rates {_rates(OBSERVED_RATES)}",
        "a part observed": f"{DIM} × {DIM}, rank {RANK}, {ENTRIES} entries; balanced start of {SCALE:g}; "
        f"learning rates {_rates(RATES)}; until a mean train loss of {LOSS_THRESHOLD:g}",
        "seeds": f"{len(seeds)}, each with its own matrix and start; 1 where everything is observed",
    }


def _rates(rates: Mapping[int, float]) -> str:
    return ", ".join(f"{rate:g} at depth {depth}" for depth, rate in rates.items())


def _table(paths: Sequence[SingularValuePaths], targets: Sequence[float] | None = None) -> pa.Table:
    """Return a row for every depth: the largest errors, and the gap if the targets are known."""
    by_depth: dict[int, list[SingularValuePaths]] = {}
    for one in paths:
        by_depth.setdefault(one.depth, []).append(one)
    return pa.Table.from_pylist(
        [
            {
                "depth": depth,
                "largest error": max(one.error() for one in alike),
                "with the theorem of one factor more": max(one.contrast_error() for one in alike),
            }
            | ({} if targets is None else {"gap": max(gap_at_half(one, targets) for one in alike)})
            for depth, alike in by_depth.items()
        ]
    )
