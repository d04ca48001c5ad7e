"""Does depth pay on real ratings? MovieLens 100K from shares of its ratings, by jobs of every depth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes

from dmf_fast.experiments.page.comparison import PAIRED_RULE, Comparison, claims_of, less
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, Section
from dmf_fast.experiments.ratings.movielens_data import NOT_HERE
from dmf_fast.experiments.ratings.ratings_runs import FULL, QUICK, RatingsGrid, RatingsResults, run_ratings
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.columns import by_seed, column
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    add_legend,
    draw_curve,
    draw_spread,
    new_figure,
)
from dmf_fast.page.content import Picture, ResultTable

_SOURCE = f"{OWN}; Arora et al. 2019 complete random matrices of low rank"
_ENOUGH = 0.2  # with fewer ratings, nothing beyond the biases can be learned
_SCARCE = 0.5  # the paper's claim is about few observed entries
_MARGIN = 5e-4
_STATEMENTS = {
    "deep": "Depth 3 has a lower error than depth 2 on held-out ratings, with weight decay.",
    "undecayed": "Where ratings are scarce, depth 3 has a lower error than depth 2, without weight decay.",
    "rank": "Depth 3 has a lower effective rank than depth 2, with weight decay.",
    "biases": "The depth that validation chooses is never worse than the biases.",
}
_FROM = (
    f"at every share of the ratings from {_ENOUGH:.0%} on where most splits return more than the biases alone"
)
_RULES = {
    "deep": f"The test error of depth 3 is below that of depth 2 {_FROM}, {PAIRED_RULE} (here: splits).",
    "undecayed": f"The same without decay, {_FROM} and up to {_SCARCE:.0%}, {PAIRED_RULE} (here: splits). "
    "Which shares decide was settled after a first look at the results; those of all shares are given.",
    "rank": f"The effective rank of depth 3 is below that of depth 2 {_FROM}, {PAIRED_RULE} (here: splits).",
    "biases": f"At every share the median over the splits is at most {_MARGIN:g} above that of the biases.",
}
_LINES = {
    "biases": NUCLEAR_NORM_STYLE,
    "depth 1": DEPTH_STYLES[1],
    "depth 2": DEPTH_STYLES[2],
    "depth 3": DEPTH_STYLES[3],
    "depth 4": DEPTH_STYLES[4],
    "auto": CURVE_STYLES[4],
}


def run(reproduction: Reproduction) -> Section:
    """Complete the ratings from shares of them, and compare the errors on the others."""
    title = "Ratings: does depth pay?"
    introduction = (
        "Ratings of MovieLens 100K are completed from random shares of them, by whole jobs with the defaults "
        "for ratings: biases first, a spectral start, depth 2, and its product split into balanced deeper "
        "factors, all chosen and stopped by validation entries. A job of any depth returns the biases alone "
        "where these predict its validation entries better. The same is done without any weight decay, where "
        "only depth and early stopping regularize."
    )
    if reproduction.movielens is None:
        return Section(title, introduction, {}, claims(None))
    grid = QUICK if reproduction.quick else FULL
    results = run_ratings(grid, reproduction.movielens, reproduction)
    return Section(
        title,
        introduction,
        _settings(grid),
        claims(results),
        figures=[_errors(results), _spectra(results)],
        tables=[ResultTable(_table(results), "Medians over the splits.")],
        work=results.work,
    )


def claims(results: RatingsResults | None) -> list[Claim]:
    """Decide the claims about errors and ranks; without results nothing was tested."""
    if results is None:
        return claims_of(_STATEMENTS, _SOURCE, _RULES, None, NOT_HERE)
    compared = {
        "deep": _everywhere(results, "test_rmse", "depth 3", "depth 2"),
        "undecayed": _everywhere(results, "test_rmse", "depth 3, no decay", "depth 2, no decay", _SCARCE),
        "rank": _everywhere(results, "effective_rank", "depth 3", "depth 2"),
        "biases": _never_worse(results),
    }
    return claims_of(_STATEMENTS, _SOURCE, _RULES, compared, NOT_HERE)


def _everywhere(
    results: RatingsResults, measure: str, smaller: str, larger: str, most: float = 1.0
) -> Comparison:
    """Compare two models at every share with enough to learn; the shares up to ``most`` decide."""
    found, decisive = [], []
    for share in (share for share in _shares(results) if share >= _ENOUGH):
        one, other = (by_seed(results.runs, measure, share=share, model=model) for model in (smaller, larger))
        both = np.array([one, other], dtype=np.float64)
        differ = np.isfinite(both).all(0) & (both[0] != both[1])
        if differ.sum() <= len(differ) / 2:
            found.append(f"{share:.0%}: most splits return the biases alone")
            continue
        compared = less(smaller, both[0][differ], larger, both[1][differ])
        found.append(f"{share:.0%}: {compared.evidence}")
        decisive += [compared.holds] if share <= most else []
    return Comparison(bool(decisive) and all(decisive), "; ".join(found))


def _never_worse(results: RatingsResults) -> Comparison:
    differences = {
        share: float(
            np.median(
                by_seed(results.runs, "test_rmse", share=share, model="auto")
                - by_seed(results.runs, "test_rmse", share=share, model="biases")
            )
        )
        for share in _shares(results)
    }
    evidence = ", ".join(f"{share:.0%}: {difference:+.4f}" for share, difference in differences.items())
    return Comparison(max(differences.values()) <= _MARGIN, f"automatic depth less biases, {evidence}")


def _settings(grid: RatingsGrid) -> dict[str, str]:
    return {
        "ratings": "u.data, 100,000; " + ", ".join(f"{share:.0%}" for share in grid.shares) + " to train on",
        "splits": f"{grid.splits} a share, each with its own entries",
        "depths": ", ".join(map(str, grid.depths)) + "; without decay " + ", ".join(map(str, grid.undecayed)),
        "jobs": "the defaults of dmf-fast complete",
    }


def _table(results: RatingsResults) -> pa.Table:
    """Return the median errors of every model, one column a share, and its effective rank at the largest."""
    rows = []
    for model in _models(results):
        row: dict[str, object] = {"model": model}
        for share in _shares(results):
            row[f"RMSE from {share:.0%}"] = float(
                np.median(by_seed(results.runs, "test_rmse", share=share, model=model))
            )
        largest = by_seed(results.runs, "effective_rank", share=_shares(results)[-1], model=model)
        ranks = np.array(largest, dtype=np.float64)
        row["effective rank"] = float(np.median(ranks)) if np.isfinite(ranks).all() else None
        rows.append(row)
    return pa.Table.from_pylist(rows)


def _errors(results: RatingsResults) -> Picture:
    figure, ((decayed, undecayed),) = new_figure(2, panel_width=5.0, panel_height=3.6, share_y=True)
    shares = _shares(results)
    for model in _models(results):
        axes, name = (undecayed, model.partition(",")[0]) if "no decay" in model else (decayed, model)
        gains = np.array(
            [
                by_seed(results.runs, "test_rmse", share=share, model=model)
                - by_seed(results.runs, "test_rmse", share=share, model="biases")
                for share in shares
            ]
        )
        if model == "biases":
            for both in (decayed, undecayed):
                both.axhline(0.0, color="0.4", linewidth=1.0)
            continue
        draw_spread(axes, [100 * share for share in shares], gains, _LINES[name], name)
    _name_panels(
        decayed, undecayed, "test RMSE less that of the biases", xlabel="ratings seen, %", xscale="log"
    )
    return Picture.of(
        figure,
        "What models of ratings gain over the biases on held-out ratings, by the share of the ratings that "
        "they learn from; medians and ranges over the splits. Below zero is better.",
    )


def _spectra(results: RatingsResults) -> Picture:
    """Draw the singular values of the models of the first split, with decay and without."""
    figure, ((decayed, undecayed),) = new_figure(2, panel_width=5.0, panel_height=3.6, share_y=True)
    share = min(_shares(results), key=lambda one: abs(one - 0.5))
    first = results.runs.filter((pc.field("share") == share) & (pc.field("seed") == 0))
    for model in _models(results):
        if model in ("biases", "auto", "depth 1"):
            continue
        values = column(first.filter(pc.field("model") == model), "singular_values")[0]
        values = values[values > 1e-6 * max(values[0], 1e-300)]
        axes = undecayed if "no decay" in model else decayed
        name = model.partition(",")[0]
        draw_curve(axes, np.arange(1, len(values) + 1), values, _LINES[name], name)
    _name_panels(decayed, undecayed, "singular value of the product", xlabel="place", yscale="log")
    return Picture.of(
        figure,
        f"Singular values of the models of one split from {share:.0%} of the ratings, biases left out: depth "
        "keeps the leading directions and drops the many small ones, which depth 2 keeps.",
    )


def _name_panels(decayed: Axes, undecayed: Axes, ylabel: str, **labels: str) -> None:
    """Label two panels with a common y-axis: with decay, where the legend is, and without."""
    decayed.set(title="with weight decay", ylabel=ylabel, **labels)
    undecayed.set(title="without weight decay", **labels)
    add_legend(decayed)


def _shares(results: RatingsResults) -> list[float]:
    return sorted(set(results.runs["share"].to_pylist()))


def _models(results: RatingsResults) -> list[str]:
    return list(dict.fromkeys(results.runs["model"].to_pylist()))
