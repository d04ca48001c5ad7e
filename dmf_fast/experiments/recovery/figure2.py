"""Figure 2 of Arora, Cohen, Hu & Luo (NeurIPS 2019): depth does not favor a small nuclear norm.

Nuclear norm, effective rank and reconstruction error of the solutions of gradient descent, compared with
those of the matrix of minimum nuclear norm, with few and with many observed entries.
"""

from __future__ import annotations

from dmf_fast.experiments.page.papers import ARORA
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.recovery.completion_grid import FULL, QUICK, GridResults, run_grid
from dmf_fast.experiments.recovery.spectra import FoundSpectra, claims, picture, table
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.page.content import ResultTable

SOURCE = "Arora et al. 2019, figure 2"


def run(reproduction: Reproduction) -> Section:
    """Compare the spectra of the solutions of `scales`, which are not run again."""
    grid = QUICK if reproduction.quick else FULL
    spectra = spectra_of(run_grid(grid, reproduction))
    return Section(
        title="Not a norm: the spectrum of what gradient descent finds",
        paper=ARORA,
        introduction=(
            "The runs of the section before, by their nuclear norm and by their effective rank, the "
            "exponential of the entropy of the normalized singular values. Where many entries are observed, "
            "all solutions agree; where few are, the question is whether depth prefers a lower rank over a "
            "smaller nuclear norm. Lines are medians over the seeds, bands their ranges."
        ),
        settings=grid.settings() | {"learning rate shown": f"{min(grid.learning_rates):g}"},
        claims=claims(spectra, SOURCE),
        figures=[picture(spectra, f"Rank {grid.rank}, {grid.size} × {grid.size}")],
        tables=[ResultTable(table(spectra), "Medians over the seeds at the smallest initialization.")],
    )


def spectra_of(results: GridResults) -> FoundSpectra:
    """Return the spectra of a grid at its smallest learning rate."""
    grid = results.grid
    return FoundSpectra(
        data="observed entries",
        counts=(grid.few, grid.many),
        depths=grid.depths,
        init_scales=grid.init_scales,
        measures=("nuclear_norm", "effective_rank", "reconstruction_mse"),
        of_runs=lambda measure, count, depth, scale: results.of_runs(
            measure, observed=count, depth=depth, init_scale=scale
        ),
        of_convex=results.of_convex,
        truths=[grid.problem(grid.few, seed).truth for seed in range(grid.seeds)],
    )
