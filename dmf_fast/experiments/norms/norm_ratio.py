"""With a penalty on ‖W‖_* / ‖W‖_F, a single matrix completes as well as a chain of three.

Zhao, "Combining Explicit and Implicit Regularization for Efficient Learning in Deep Networks" (NeurIPS 2022).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure

from dmf_fast.experiments.norms.norm_ratio_claims import RatioErrors, claims
from dmf_fast.experiments.norms.norm_ratio_runs import (
    FULL,
    OPTIMIZERS,
    QUICK,
    RatioGrid,
    RatioResults,
    best_of,
    run_ratio_grid,
)
from dmf_fast.experiments.page.papers import ZHAO
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.recovery.completion_grid import GridResults, run_grid
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    add_legend,
    draw_spread,
    new_figure,
)
from dmf_fast.page.content import Picture, ResultTable
from dmf_fast.spectrum import effective_rank

_ERROR = "reconstruction_mse"
_STYLES = {"Adam": DEPTH_STYLES[1], "gradient descent": CURVE_STYLES[4]}

INTRODUCTION = (
    "One matrix, no product, descends the mean squared residual plus λ ‖W‖_* / ‖W‖_F. Without the penalty "
    "nothing would move the entries that are not observed. Learning rate and λ of each optimizer are those "
    "with the least reconstruction error on a problem of its own, which is not tested. Depth 3 and the least "
    "nuclear norm complete the same matrices without a penalty: their lines are where they end."
)


def run(reproduction: Reproduction) -> Section:
    """Complete matrices with the penalty, with Adam and gradient descent, and compare with depth 3."""
    grid = QUICK if reproduction.quick else FULL
    deep = run_grid(grid.problems, reproduction)
    results = run_ratio_grid(grid, reproduction)
    return Section(
        title="A penalty in place of depth",
        paper=ZHAO,
        introduction=INTRODUCTION,
        settings=_settings(results),
        claims=claims(_errors(results, deep)),
        figures=[
            Picture.of(
                _plot(results, deep),
                "Medians and ranges over the seeds. An entry of the truth is about 1 in size.",
            )
        ],
        tables=[
            ResultTable(_table(results, deep), "The end of the runs, by seed."),
            ResultTable(
                results.tuning.drop_columns(["seed", "step"]).rename_columns(
                    [
                        "optimizer",
                        "learning rate",
                        "λ",
                        "train loss",
                        "reconstruction error",
                        "effective rank",
                    ]
                ),
                "The tuning problem; runs that diverge have no numbers.",
            ),
        ],
        work=deep.work,
    )


def _errors(results: RatioResults, deep: GridResults) -> RatioErrors:
    tuning = results.tuning
    is_at_one = (np.array(tuning["optimizer"].to_pylist()) == "gradient descent") & (
        tuning["lr"].to_numpy() == 1
    )
    return RatioErrors(
        adam=results.at_end(_ERROR, "Adam"),
        descent=results.at_end(_ERROR, "gradient descent"),
        descent_at_one=float(tuning[_ERROR].to_numpy()[is_at_one].min()),
        deep=deep.of_runs(_ERROR, observed=results.grid.observed, depth=3),
        adam_rank=results.at_end("effective_rank", "Adam"),
        true_rank=_true_ranks(results.grid),
    )


def _true_ranks(grid: RatioGrid) -> np.ndarray:
    truths = [grid.problems.problem(grid.observed, seed).truth for seed in range(grid.problems.seeds)]
    return np.array([float(effective_rank(torch.linalg.svdvals(truth))) for truth in truths])


def _settings(results: RatioResults) -> dict[str, str]:
    grid, problems = results.grid, results.grid.problems
    best = {name: best_of(results.tuning, name) for name in OPTIMIZERS}
    of_problems = problems.settings()
    return {name: of_problems[name] for name in ("matrix", "rank", "observed entries", "seeds")} | {
        "penalized start": f"Gaussian, scale {grid.init_scale:g}: entries of about "
        f"{grid.init_scale / np.sqrt(problems.size):.2g}",
        "penalized runs": f"{grid.steps:,} steps",
        "tried": "; ".join(
            f"{name} at {', '.join(f'{lr:g}' for lr in rates)}" for name, rates in grid.learning_rates.items()
        )
        + f"; λ {', '.join(f'{penalty:g}' for penalty in grid.penalties)}",
        "chosen": "; ".join(
            f"{name} at {row['lr']:g} with λ = {row['penalty']:g}" for name, row in best.items()
        ),
        "depth 3": f"GroupRMSprop at {problems.learning_rates[0]:g}, from a Gaussian start of scale "
        f"{problems.init_scales[0]:g}, to a train loss of {problems.train_loss_threshold:g}",
    }


def _table(results: RatioResults, deep: GridResults) -> pa.Table:
    observed = results.grid.observed
    columns = {
        f"{name}: {short}": results.at_end(measure, name)
        for measure, short in ((_ERROR, "error"), ("effective_rank", "effective rank"))
        for name in OPTIMIZERS
    }
    return pa.table(
        {"seed": list(range(results.grid.problems.seeds))}
        | columns
        | {
            "depth 3: error": deep.of_runs(_ERROR, observed=observed, depth=3),
            "nuclear norm: error": deep.of_convex(_ERROR, observed),
            "effective rank of the truth": _true_ranks(results.grid),
        }
    )


def _plot(results: RatioResults, deep: GridResults) -> Figure:
    figure, ((errors, ranks),) = new_figure(columns=2, panel_width=4.4)
    steps = sorted(set(results.runs["step"].to_pylist()))
    for name, style in _STYLES.items():
        for axes, measure, label in ((errors, _ERROR, f"penalty, {name}"), (ranks, "effective_rank", None)):
            spread = [by_seed(results.runs, measure, optimizer=name, step=step) for step in steps]
            draw_spread(axes, steps, spread, style, label)
    observed, ends = results.grid.observed, [steps[0], steps[-1]]
    for label, style, values in (
        ("depth 3", DEPTH_STYLES[3], deep.of_runs(_ERROR, observed=observed, depth=3)),
        ("least nuclear norm", NUCLEAR_NORM_STYLE, deep.of_convex(_ERROR, observed)),
    ):
        draw_spread(errors, ends, [values] * 2, style, label)
    truth = float(np.median(_true_ranks(results.grid)))
    ranks.axhline(truth, color="black", linestyle=":", linewidth=1, label="truth")
    errors.set(yscale="log", xlabel="step", ylabel="reconstruction error")
    ranks.set(yscale="log", xlabel="step", ylabel="effective rank")
    add_legend(figure, loc="outside lower center", ncols=5)
    return figure
