"""A 4 × 4 completion problem whose solutions of minimum rank and of minimum nuclear norm differ.

Li, Luo & Lyu, "Towards Resolving the Implicit Bias of Gradient Descent for Matrix Factorization: Greedy
Low-Rank Learning" (ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dmf_fast.chain import chain_product
from dmf_fast.experiments.page.papers import LI, OWN
from dmf_fast.experiments.page.section import Claim, Section, verdict
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.figure_style import DEPTH_STYLES, add_legend, draw_curve, new_figure
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.page.content import Picture, ResultTable
from dmf_fast.spectrum import effective_rank
from dmf_fast.training import FitOptions, Recording, Trial, TrialResult

R = 3.0
# A tenth of the largest stable rate: the ends agree with gradient flow to about a thousandth.
LEARNING_RATES = {2: 1e-3, 3: 3e-4, 4: 1e-4}
INIT_SCALES = {
    2: (1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-12, 1e-16, 1e-20, 1e-24, 1e-30),
    3: (1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-10),
    4: (1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6),
}
LOSS_THRESHOLD = 1e-20
NEAR = 0.01

INTRODUCTION = (
    "Observed are [[?, ?, 1, R], [?, ?, R, ?], [1, R, ?, ?], [R, ?, ?, ?]] with R = 3. Of the positive "
    "semidefinite completions that of least nuclear norm has rank 2 and trace 4R = 12; the one of rank 1 "
    "that treats both halves alike, x xᵀ with x = (1, R, 1, R), has trace 2R² + 2 = 20. Gradient descent "
    "starts from W = αI, shared out evenly among the factors, so that W stays symmetric and positive "
    "semidefinite. Left: the trace at the end; right: the distance to each of the two. The start shrinks to "
    "the right."
)


def run(reproduction: Reproduction) -> Section:
    """Descend from ever smaller multiples of the identity; raise `KeyboardInterrupt` after Ctrl-C."""
    depths = (2, 3) if reproduction.quick else (2, 3, 4)
    trials = [_trial(depth, scale) for depth in depths for scale in INIT_SCALES[depth]]
    ended = run_trials(trials, reproduction, "rank_one").results
    ends = {depth: [End.of(one) for one in ended if one.trial.labels["depth"] == depth] for depth in depths}
    return Section(
        title="Least rank against least nuclear norm",
        paper=LI,
        introduction=INTRODUCTION,
        settings={
            "matrix": f"4 × 4, six entries observed, R = {R:g}",
            "start": "W = αI, every factor α^(1/N) I",
            "learning rates": ", ".join(f"{LEARNING_RATES[depth]:g} at depth {depth}" for depth in depths),
            "loss": "sum of the squared residuals",
            "stopped": f"at a mean squared residual of {LOSS_THRESHOLD:g}",
        },
        claims=[greedy(ends[2]), nuclear_norm_from_large_starts(ends[2]), deeper_from_larger_starts(ends)],
        figures=[Picture.of(_plot(ends), "Where descent ends, against the scale α of the start W = αI.")],
        tables=[ResultTable(_table(ends), "The end of every run; distances relative to the solution.")],
        work=work_of(ended),
    )


def observed_entries() -> Observations:
    """Return the six observed entries.

    >>> observed_entries().values.sum()
    tensor(14., dtype=torch.float64)
    """
    entries = {(0, 2): 1.0, (0, 3): R, (1, 2): R, (2, 0): 1.0, (2, 1): R, (3, 0): R}
    rows, columns = zip(*entries, strict=True)
    return Observations(rows, columns, list(entries.values()), (4, 4), dtype=torch.float64)


def rank_one_completion() -> Tensor:
    """Return the completion of rank 1 that is symmetric under exchange of both halves, ``(4, 4)``, float64.

    >>> rank_one_completion().trace()
    tensor(20., dtype=torch.float64)
    """
    vector = torch.tensor([1.0, R, 1.0, R], dtype=torch.float64, device="cpu")
    return torch.outer(vector, vector)


def least_nuclear_norm_completion() -> Tensor:
    """Return the positive semidefinite completion of least nuclear norm, ``(4, 4)``, float64.

    ``W_14 = W_23 = R`` requires a trace of at least 4R, attained if rows 1 and 4, and rows 2 and 3, are
    equal. No other completion has a smaller nuclear norm, but some indefinite ones have the same.

    >>> least_nuclear_norm_completion().trace()
    tensor(12., dtype=torch.float64)
    """
    outer = torch.tensor([R, 1.0, 1.0, R], dtype=torch.float64, device="cpu")
    inner = torch.tensor([1.0, R, R, 1.0], dtype=torch.float64, device="cpu")
    return torch.stack([outer, inner, inner, outer])


@dataclass(frozen=True)
class End:
    """The end of a run; distances are Frobenius norms relative to that of the solution."""

    scale: float
    loss: float
    trace: float
    effective_rank: float
    to_rank_one: float
    to_least_nuclear_norm: float

    @staticmethod
    def of(one: TrialResult) -> End:
        """Return the end of a trial."""
        product = chain_product(one.factors)
        return End(
            float(one.trial.labels["init_scale"]),
            one.result.history["train_loss"][-1],
            float(product.trace()),
            float(effective_rank(torch.linalg.svdvals(product))),
            _distance(product, rank_one_completion()),
            _distance(product, least_nuclear_norm_completion()),
        )


def _distance(product: Tensor, solution: Tensor) -> float:
    return float(torch.linalg.matrix_norm(product - solution) / torch.linalg.matrix_norm(solution))


def _trial(depth: int, scale: float) -> Trial:
    return Trial(
        {"depth": depth, "init_scale": scale},
        initialize("identity", (4,) * (depth + 1), scale, dtype=torch.float64),
        observed_entries(),
        partial(torch.optim.SGD, lr=LEARNING_RATES[depth]),
        FitOptions(steps=10_000_000, reduction="sum", train_loss_threshold=LOSS_THRESHOLD),
        Recording(per_decade=5),
    )


def greedy(ends: Sequence[End]) -> Claim:
    """Return the claim that small starts lead to rank 1, from the runs of depth 2, largest start first."""
    fitted = all(end.loss <= LOSS_THRESHOLD for end in ends)
    approaching = bool((np.diff([end.to_rank_one for end in ends]) < 0).all())
    last, least = ends[-1], 4 * R
    return Claim(
        "At depth 2, from ever smaller starts, gradient descent goes to the completion of rank 1 and not to "
        "that of least nuclear norm.",
        "Li, Luo & Lyu 2021, the counterexample to the conjecture of Gunasekar et al. 2017",
        f"Every run of depth 2 is fitted to {LOSS_THRESHOLD:g}; the distance to the completion of rank 1 "
        f"falls from each start to the next smaller one; and from the smallest it is at most {NEAR:g}, and "
        "the trace more than one and a half times the least nuclear norm.",
        verdict(fitted and approaching and last.to_rank_one <= NEAR and last.trace > 1.5 * least),
        f"From α = {last.scale:g} trace {last.trace:.5g} (least nuclear norm {least:g}), effective rank "
        f"{last.effective_rank:.5f}, distance {last.to_rank_one:.2g}; the distance "
        f"{'falls' if approaching else 'does not fall'} from start to start.",
    )


def nuclear_norm_from_large_starts(ends: Sequence[End]) -> Claim:
    """Return the claim that usual starts lead close to the minimum nuclear norm, from the runs of depth 2."""
    traces = {end.scale: end.trace for end in ends if 1e-2 <= end.scale <= 1e-1}
    return Claim(
        "At depth 2, from starts of 0.1 and 0.01, descent ends near the least nuclear norm.",
        OWN,
        f"From α of 0.01 to 0.1 the trace is within 5% of the least nuclear norm, {4 * R:g}.",
        verdict(bool(traces) and all(abs(trace / (4 * R) - 1) <= 0.05 for trace in traces.values())),
        "; ".join(f"α = {scale:g}: trace {trace:.4g}" for scale, trace in traces.items()) + ".",
    )


def deeper_from_larger_starts(ends: Mapping[int, Sequence[End]]) -> Claim:
    """Return the claim that deeper chains reach rank 1 from larger starts, from the runs by depth."""
    near = {
        depth: takewhile(lambda end: end.to_rank_one <= NEAR, sorted(runs, key=lambda end: end.scale))
        for depth, runs in ends.items()
    }
    largest = {depth: max((end.scale for end in runs), default=0.0) for depth, runs in near.items()}
    deeper = [scale for depth, scale in largest.items() if depth > 2]
    return Claim(
        "Deeper chains come to the completion of rank 1 from far larger starts.",
        "Li, Luo & Lyu 2021, abstract: deeper, with a much weaker dependence on the scale of the start",
        "The largest start from which, as from all smaller ones, the distance to the completion of rank 1 is "
        f"at most {NEAR:g} is at least a thousand times that of depth 2 at every larger depth.",
        verdict(largest[2] > 0 and bool(deeper) and all(scale >= 1000 * largest[2] for scale in deeper)),
        "; ".join(
            f"depth {depth}: from α = {scale:g} and smaller" if scale else f"depth {depth}: from none"
            for depth, scale in largest.items()
        )
        + ".",
    )


def _table(ends: Mapping[int, Sequence[End]]) -> pa.Table:
    rows = [
        {
            "depth": depth,
            "α": f"{end.scale:g}",
            "trace": f"{end.trace:.5g}",
            "effective rank": f"{end.effective_rank:.5f}",
            "distance to rank 1": end.to_rank_one,
            "distance to least nuclear norm": end.to_least_nuclear_norm,
            "train loss": end.loss,
        }
        for depth, runs in ends.items()
        for end in runs
    ]
    return pa.Table.from_pylist(rows)


def _plot(ends: Mapping[int, Sequence[End]]) -> Figure:
    figure, ((traces, *distances),) = new_figure(columns=3, panel_width=3.5, panel_height=2.9, share_x=True)
    for depth, runs in ends.items():
        scales, style = [end.scale for end in runs], DEPTH_STYLES[depth]
        draw_curve(traces, scales, [end.trace for end in runs], style, f"depth {depth}")
        draw_curve(distances[0], scales, [end.to_rank_one for end in runs], style)
        draw_curve(distances[1], scales, [end.to_least_nuclear_norm for end in runs], style)
    for trace, name in ((2 * R**2 + 2, "rank 1"), (4 * R, "least nuclear norm")):
        traces.axhline(trace, color="black", linestyle=":", linewidth=1)
        traces.annotate(
            name,
            (1, trace),
            (-4, 3),
            ha="right",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
        )
    traces.set(xscale="log", ylabel="trace of W", ylim=(11, 21.5))
    traces.invert_xaxis()  # the start shrinks to the right
    distances[0].set(yscale="log", ylabel="distance to rank 1")
    distances[1].set(yscale="log", ylabel="distance to least nuclear norm")
    for axes in (traces, *distances):
        axes.set_xlabel("scale α of the start")
    add_legend(traces, loc="center right")
    return figure
