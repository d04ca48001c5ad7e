"""MovieLens 100K: deep factorization without regularization compared with the tuned nuclear norm.

Arora, Cohen, Hu & Luo (NeurIPS 2019) show on MovieLens how singular values move (figure 3). The comparison
here, of errors on held-out ratings, is an addition of this project.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dmf_fast.experiments.page.comparison import PAIRED_RULE, claims_of, less
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, Section
from dmf_fast.experiments.ratings.movielens_data import NOT_HERE, MovieLensSplit, read_u1
from dmf_fast.experiments.ratings.movielens_runs import (
    FULL,
    QUICK,
    MovieLensGrid,
    MovieLensResults,
    run_movielens,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.columns import column
from dmf_fast.figure_style import (
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    add_legend,
    draw_curve,
    draw_spread,
    new_figure,
)
from dmf_fast.page.content import Picture, ResultTable

_SOURCE = f"{OWN}; on MovieLens Arora et al. 2019 show the dynamics alone, in figure 3"
_STATEMENTS = {
    "convex": "On MovieLens unregularized deep factorization has a lower error than the tuned nuclear norm.",
    "depth 3": "On MovieLens depth 3 has a lower effective rank than depth 2 at its best step.",
    "depth 4": "On MovieLens depth 4 has a lower effective rank than depth 3 at its best step.",
    "error": "On MovieLens depth 3 or more has a lower error than depth 2, as on random low-rank matrices.",
}
_RANK_RULE = (
    f"At the steps of the least validation error the effective rank of the deeper is lower, {PAIRED_RULE}."
)
_RULES = {
    "convex": "At the depth and the steps of the least validation error the test error is below that of the "
    f"nuclear norm at the weight of the least validation error, {PAIRED_RULE}.",
    "depth 3": _RANK_RULE,
    "depth 4": _RANK_RULE,
    "error": "At the steps of the least validation error, the test error of the depth from 3 on that has the "
    f"least of it is below that of depth 2, {PAIRED_RULE}.",
}


def run(reproduction: Reproduction) -> Section:
    """Complete the ratings of ``u1.base`` both ways and compare the errors on ``u1.test``."""
    title = "MovieLens: held-out ratings"
    introduction = (
        "Ratings of the official split u1, less their mean, are completed by products of factors that begin "
        "near zero and are trained without regularization until the error on validation entries is least, "
        "and by nuclear-norm regularization, whose weight the same entries choose. All depths share one "
        "learning rate, initial scale and width. The paper shows only the dynamics on MovieLens; this "
        "comparison of errors is an addition."
    )
    if reproduction.movielens is None:
        return Section(title, introduction, {}, claims(None))
    grid = QUICK if reproduction.quick else FULL
    split = read_u1(reproduction.movielens, grid.validation_fraction, seed=0)
    results = run_movielens(grid, split, reproduction)
    return Section(
        title,
        introduction,
        _settings(grid, split),
        claims(results),
        figures=[_picture(results)],
        tables=[
            ResultTable(
                _table(results, split), "At what the validation entries chose; means over the seeds."
            ),
            ResultTable(results.path, "The nuclear norm from strong to weak regularization."),
        ],
        work=results.work,
    )


def claims(results: MovieLensResults | None) -> list[Claim]:
    """Decide the claims about errors and ranks; without results nothing was tested."""
    if results is None:
        return claims_of(_STATEMENTS, _SOURCE, _RULES, None, NOT_HERE)
    tests = {depth: _of_depth(results, "test_rmse", depth) for depth in (2, 3, 4)}
    ranks = {depth: _of_depth(results, "effective_rank", depth) for depth in (2, 3, 4)}
    chosen, deep = _least_validation(results, (2, 3, 4)), _least_validation(results, (3, 4))
    convex = np.full(len(tests[chosen]), results.best_on_path["test_rmse"])
    comparisons = {
        "convex": less(f"depth {chosen}", tests[chosen], "nuclear norm", convex),
        "depth 3": less("depth 3", ranks[3], "depth 2", ranks[2]),
        "depth 4": less("depth 4", ranks[4], "depth 3", ranks[3]),
        "error": less(f"depth {deep}", tests[deep], "depth 2", tests[2]),
    }
    return claims_of(_STATEMENTS, _SOURCE, _RULES, comparisons, NOT_HERE)


def _of_depth(results: MovieLensResults, measure: str, depth: int) -> np.ndarray:
    """Return a measure of the runs of a depth at their best steps, ``(seeds,)``, float64."""
    return column(_runs_of(results.best, depth), measure)


def _least_validation(results: MovieLensResults, depths: tuple[int, ...]) -> int:
    """Return the depth with the lowest validation error, averaged over the seeds."""
    return min(depths, key=lambda depth: _of_depth(results, "validation_rmse", depth).mean())


def _settings(grid: MovieLensGrid, split: MovieLensSplit) -> dict[str, str]:
    weights = ", ".join(f"{weight:g}" for weight in grid.regularizations)
    return {
        "ratings": f"{split.train.nnz:,} of u1.base to train on, {split.validation.nnz:,} to choose by; "
        f"{split.test.nnz:,} of u1.test; all less the mean {split.mean:.3f} of u1.base",
        "factorization": f"Gaussian initialization of scale {grid.init_scale:g}, hidden width {grid.hidden}",
        "depths": ", ".join(map(str, grid.depths)),
        "seeds": f"{grid.seeds}, each with its own start",
        "rule": f"GroupRMSprop, learning rate {grid.lr:g}, {grid.steps:,} steps, looked at every "
        f"{grid.record_every}",
        "nuclear norm": f"weights {weights} relative to the summed squared error, solved to a relative "
        f"duality gap of {grid.tolerance:g}",
    }


def _table(results: MovieLensResults, split: MovieLensSplit) -> pa.Table:
    rows = [_row(f"depth {depth}", _runs_of(results.best, depth)) for depth in _depths(results)]
    rows.append(_row("nuclear norm", pa.Table.from_pylist([results.best_on_path])))
    constant = {
        name: [float(entries.values.square().mean().sqrt())]
        for name, entries in (("validation_rmse", split.validation), ("test_rmse", split.test))
    }
    rows.append(_row("mean of u1.base", pa.table(constant)))
    return pa.Table.from_pylist(rows)


def _row(solution: str, found: pa.Table) -> dict[str, str | float | None]:
    """Return means over the rows, and the deviation of the test error; None for missing measures."""
    row: dict[str, str | float | None] = {"solution": solution}
    for name in ("step", "regularization", "validation_rmse", "test_rmse"):
        row[name] = float(np.mean(found[name])) if name in found.column_names else None
    row["test_rmse_deviation"] = float(np.std(found["test_rmse"], ddof=1)) if len(found) > 1 else None
    for name in ("rank", "effective_rank", "nuclear_norm"):
        row[name] = float(np.mean(found[name])) if name in found.column_names else None
    return row


def _picture(results: MovieLensResults) -> Picture:
    figure, ((errors, ranks, both),) = new_figure(3)
    for depth in _depths(results):
        runs = _runs_of(results.histories, depth)
        steps = sorted(set(runs["step"].to_pylist()))
        style, label = DEPTH_STYLES[depth], f"depth {depth}"
        by_step = {name: _by_step(runs, name) for name in ("test_rmse", "effective_rank")}
        draw_spread(errors, steps, by_step["test_rmse"], style, label)
        draw_spread(ranks, steps[1:], by_step["effective_rank"][1:], style, label)
        # For the first seed, as a line through the medians of both would not be a run.
        draw_curve(both, by_step["effective_rank"][1:, 0], by_step["test_rmse"][1:, 0], style, label)
    path, best = results.path, results.best_on_path
    errors.axhline(best["test_rmse"], color=NUCLEAR_NORM_STYLE["color"], linestyle="--", label="nuclear norm")
    ranks.axhline(best["effective_rank"], color=NUCLEAR_NORM_STYLE["color"], linestyle="--")
    both.plot(path["effective_rank"], path["test_rmse"], **NUCLEAR_NORM_STYLE)
    errors.set(xlabel="step", ylabel="RMSE on u1.test")
    ranks.set(xlabel="step", ylabel="effective rank", yscale="log")
    both.set(xlabel="effective rank", ylabel="RMSE on u1.test", xscale="log")
    add_legend(errors)
    return Picture.of(
        figure,
        "Left and middle: error on u1.test and effective rank along the runs, medians and ranges over the "
        "seeds; the dashed line is the nuclear norm at the weight that the validation entries choose. Right: "
        "one against the other along a run of each depth, and along the weights of the nuclear norm.",
    )


def _by_step(runs: pa.Table, measure: str) -> np.ndarray:
    """Return a measure of runs recorded at the same steps, ``(steps, seeds)``, float64."""
    rows = runs.sort_by([("step", "ascending"), ("seed", "ascending")])
    return column(rows, measure).reshape(-1, len(set(rows["seed"].to_pylist())))


def _depths(results: MovieLensResults) -> list[int]:
    return sorted(set(results.best["depth"].to_pylist()))


def _runs_of(table: pa.Table, depth: int) -> pa.Table:
    return table.filter(pc.field("depth") == depth).sort_by("seed")
