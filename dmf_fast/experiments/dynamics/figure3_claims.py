"""Claims of figure 3 and theorem 3 of Arora, Cohen, Hu & Luo (NeurIPS 2019), and their rules."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dmf_fast.experiments.dynamics.singular_dynamics import LEADING, Runs
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.experiments.ratings.movielens_data import NOT_HERE
from dmf_fast.experiments.running.columns import column

_MOVING = 0.01
_VELOCITY_ERROR, _TIMES_WORSE = 0.01, 10
_ALIGNED_RATIO, _ALIGNED_SHARE = 0.5, 0.9
_SAME_LOSS = 2
_BALANCED = 0.01
_SOURCE = "Arora et al. 2019, figure 3"


def claims(synthetic_runs: Runs, movielens_runs: Runs | None = None) -> list[Claim]:
    """Decide the claims of figure 3 and theorem 3 from runs that ended at the same training loss."""
    on_both = [("a random matrix of low rank", synthetic_runs), ("MovieLens 100K", movielens_runs)]
    return [
        _theorem_holds(synthetic_runs),
        *(_gaps_widen(name, runs) for name, runs in on_both),
        *(_vectors_align(name, runs) for name, runs in on_both),
        _factors_stay_balanced(synthetic_runs),
    ]


def _theorem_holds(runs: Runs) -> Claim:
    errors = {depth: velocity_errors(states, depth) for depth, states in runs.items() if depth >= 2}
    return Claim(
        "Singular values move as dσ_r/dt = −N (σ_r²)^(1−1/N) ⟨∇ℓ(W), u_r v_rᵀ⟩.",
        "Arora et al. 2019, theorem 3",
        f"Over the next step of every recorded state, of the {LEADING} leading singular values that move at "
        f"least {_MOVING:.0%} as fast as the fastest, the median relative error of the predicted velocity is "
        f"below {_VELOCITY_ERROR:.0%} at every depth from 2 on, and more than {_TIMES_WORSE} times as large "
        "with the exponent of one factor more, 2 − 2/(N+1) in place of 2 − 2/N. The start is left out, where "
        "all singular values are equal and their vectors arbitrary.",
        verdict(all(e.right < _VELOCITY_ERROR and e.wrong > _TIMES_WORSE * e.right for e in errors.values())),
        "; ".join(
            f"depth {depth}: {e.right:.2%}, with the wrong exponent {e.wrong:.0%}"
            for depth, e in errors.items()
        ),
    )


def _gaps_widen(name: str, runs: Runs | None) -> Claim:
    statement = f"On {name}, deeper chains have wider gaps between singular values, and so a lower rank."
    rule = (
        f"Where the runs end, at mean training losses within a factor of {_SAME_LOSS} of each other, the "
        "effective rank falls with every factor more, from depth 1 on."
    )
    if runs is None:
        return Claim(statement, _SOURCE, rule, "not tested", NOT_HERE)
    ranks, losses = (
        {depth: states[name][-1].as_py() for depth, states in sorted(runs.items())}
        for name in ("effective_rank", "train_loss")
    )
    falls = bool((np.diff(list(ranks.values())) < 0).all())
    return Claim(
        statement,
        _SOURCE,
        rule,
        verdict(
            falls and all(one <= _SAME_LOSS * other for one, other in product(losses.values(), repeat=2))
        ),
        "; ".join(
            f"depth {depth}: {rank:.4g} at a loss of {losses[depth]:.2g}" for depth, rank in ranks.items()
        ),
    )


def _vectors_align(name: str, runs: Runs | None) -> Claim:
    statement = f"On {name}, the leading singular vectors of the product align with those of the gradient."
    source = f"{_SOURCE} and corollary 1"
    rule = (
        f"At every depth from 2 on, in at least {_ALIGNED_SHARE:.0%} of the states after the start, the "
        f"mean size of the off-diagonal entries of Uᵀ ∇ℓ(W) V is below {_ALIGNED_RATIO:g} times that of the "
        f"diagonal ones, for the {LEADING} leading singular vectors. The authors' public code averages over "
        "all singular vectors, which is harder: the share of the states in which these are aligned is "
        "given, too."
    )
    if runs is None:
        return Claim(statement, source, rule, "not tested", NOT_HERE)
    leading, of_all = (
        {depth: alignment_ratios(states, suffix) for depth, states in runs.items() if depth >= 2}
        for suffix in ("", "_of_all")
    )
    shares, shares_of_all = (
        {depth: float((ratio < _ALIGNED_RATIO).mean()) for depth, ratio in ratios.items()}
        for ratios in (leading, of_all)
    )
    return Claim(
        statement,
        source,
        rule,
        verdict(bool(shares) and all(share >= _ALIGNED_SHARE for share in shares.values())),
        "; ".join(
            f"depth {depth}: {share:.0%} of the states, median ratio {np.median(leading[depth]):.2g} (all "
            f"vectors: {shares_of_all[depth]:.0%}, {np.median(of_all[depth]):.2g})"
            for depth, share in shares.items()
        ),
    )


def _factors_stay_balanced(runs: Runs) -> Claim:
    gaps = {depth: float(column(states, "relative_balancedness").max()) for depth, states in runs.items()}
    return Claim(
        "Factors that are balanced at the start stay balanced.",
        "Not a claim of figure 3 but the premise of theorem 3; shown for gradient flow by Arora, Cohen & "
        "Hazan "
        "2018, in the proof of theorem 1",
        "On the random matrix, where steps are small, max_j ‖W_(j+1)ᵀ W_(j+1) − W_j W_jᵀ‖_F is below "
        f"{_BALANCED:.0%} of the largest ‖W_j‖_F² in every recorded state.",
        verdict(all(gap < _BALANCED for gap in gaps.values())),
        "; ".join(f"depth {depth}: at most {gap:.2%}" for depth, gap in gaps.items() if depth >= 2),
    )


class VelocityErrors(NamedTuple):
    """Median relative errors of predictions: by theorem 3, and with the exponent of one more factor."""

    right: float
    wrong: float


def velocity_errors(states: pa.Table, depth: int) -> VelocityErrors:
    """Return the errors for the singular values that move, in all states but the start."""
    values, measured, predicted = moving(states)
    wrong = predicted * values ** (2 / depth - 2 / (depth + 1))
    return VelocityErrors(
        *(float(np.median(np.abs(said - measured) / np.abs(measured))) for said in (predicted, wrong))
    )


def moving(states: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value, measured and predicted velocity of the singular values that move, flattened.

    The start is excluded, as all singular values are equal there.
    """
    values, measured, predicted = (
        column(states, name)[1:] for name in ("middle_values", "measured", "predicted")
    )
    speeds = np.abs(measured)
    kept = speeds >= _MOVING * speeds.max(axis=1, keepdims=True)
    return values[kept], measured[kept], predicted[kept]


def alignment_ratios(states: pa.Table, suffix: str = "") -> np.ndarray:
    """Return the ratio of off-diagonal to diagonal mean sizes in ``Uᵀ ∇ℓ(W) V``, in all states but the start.

    It is for the leading singular vectors, or for all of them with the suffix ``"_of_all"``.
    """
    on, off = (column(states, f"{name}{suffix}")[1:] for name in ("diagonal", "off_diagonal"))
    ratios: np.ndarray = off / on
    return ratios
