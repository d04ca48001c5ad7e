"""Where the nuclear norm predicts the solution: commuting measurements, and small deviations from them.

Gunasekar, Woodworth, Bhojanapalli, Neyshabur & Srebro, "Implicit Regularization in Matrix Factorization"
(NeurIPS 2017), for depth 2; Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization"
(NeurIPS 2019), for every depth from 2 on.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dmf_fast.convex.sensing import minimum_nuclear_norm_sensing
from dmf_fast.experiments.norms.commuting_claims import (
    least_nuclear_norm,
    lower_rank_off_the_basis,
    no_schatten_minimum,
    not_without_commuting,
)
from dmf_fast.experiments.norms.commuting_flows import (
    LOSS_THRESHOLD,
    MEASURED,
    SIZE,
    PositiveSensing,
    diagonal_flow,
    least_trace,
    near_identity,
    product_flow,
)
from dmf_fast.experiments.norms.commuting_pictures import draw_commuting
from dmf_fast.experiments.page.papers import GUNASEKAR
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.files.text import json_text
from dmf_fast.page.content import Picture, ResultTable
from dmf_fast.spectrum import effective_rank

INIT_SCALES = {
    1: (0.3, 1e-1, 1e-2),
    2: (0.3, 1e-1, 1e-2, 1e-4, 1e-8, 1e-16),
    3: (0.3, 1e-1, 1e-2, 1e-3),
    4: (0.3, 1e-1, 1e-2),
}
# Scales of the flows that are integrated as full matrices.
MATRIX_INIT_SCALES = {2: 1e-4, 3: 1e-2, 4: 1e-1}
OFF_DIAGONAL = 1e-2

INTRODUCTION = (
    "Measurements that commute see only the diagonal of a matrix in the basis that they share. Gradient flow "
    "on factors that start as small multiples of the identity goes to the least nuclear norm there, at every "
    "depth from 2 on. It minimizes no Schatten-p quasi-norm with p < 1: entries off the diagonal are free, "
    "and with those of √λ √λᵀ the rank is 1 and the nuclear norm the same. A start slightly off the shared "
    "basis, or measurements that do not commute, are enough for every depth from 3 on to end with a lower "
    "rank."
)


def run(reproduction: Reproduction) -> Section:
    """Integrate gradient flow for commuting and other measurements; results are kept."""
    seeds = range(1 if reproduction.quick else 5)
    depths = tuple(MATRIX_INIT_SCALES)[: 2 if reproduction.quick else None]
    folder = reproduction.folder / "commuting"
    flows = pa.concat_tables(
        cached_table(folder / _name(seed, depths), partial(flows_of, seed, depths))
        for seed in tqdm(seeds, unit="seed", disable=reproduction.hides_bars)
    )
    return Section(
        title="Where the nuclear norm is right: commuting measurements",
        paper=GUNASEKAR,
        introduction=INTRODUCTION,
        settings=_settings(seeds, depths),
        claims=[
            least_nuclear_norm(flows),
            no_schatten_minimum(flows),
            lower_rank_off_the_basis(flows),
            not_without_commuting(flows),
        ],
        figures=[
            Picture.of(
                draw_commuting(flows),
                "Left: nuclear norm over the least one, less 1, commuting measurements. Middle: Σ σ^p of the "
                "solution of depth 3 with t √(λ_1 λ_2) off the diagonal, which fits as well, over that of "
                "the solution. Right: effective ranks, from one start a depth. Medians and extremes over "
                "the seeds.",
            )
        ],
        tables=[ResultTable(_table(flows), "Where gradient flow ends, medians over the seeds.")],
    )


def flows_of(seed: int, depths: tuple[int, ...]) -> pa.Table:
    """Return one row per flow: ``problem``, ``depth``, ``init_scale``, ``seed``, and of its end the spectrum.

    ``problem`` is ``"commuting"``, ``"off the basis"`` or ``"not commuting"``, the last two at ``depths``.
    ``least_nuclear_norm`` is that of the positive semidefinite matrices that fit, by the linear program where
    measurements commute; ``least_of_all`` is that of all matrices that fit. Where they do not commute it is
    both, as far as ``least_eigenvalue``, the smallest of its symmetric part, is not below 0.
    """
    commuting, other = (PositiveSensing.draw(seed, commuting=commuting) for commuting in (True, False))
    of_commuting, of_other = _least(commuting, commuting=True), _least(other, commuting=False)
    rows = [
        {"problem": "commuting", "depth": depth, "init_scale": scale}
        | _spectrum(diagonal_flow(commuting, depth, scale))
        | of_commuting
        for depth, scales in INIT_SCALES.items()
        for scale in scales
    ]
    for depth in depths:
        scale = MATRIX_INIT_SCALES[depth]
        near, identity = (near_identity(off, seed) * scale**depth for off in (OFF_DIAGONAL, 0.0))
        for name, problem, start, least in (
            ("off the basis", commuting, near, of_commuting),
            ("not commuting", other, identity, of_other),
        ):
            end = torch.linalg.svdvals(product_flow(problem.measurements, depth, start)).numpy()
            rows.append({"problem": name, "depth": depth, "init_scale": scale} | _spectrum(end) | least)
    return pa.Table.from_pylist([row | {"seed": seed} for row in rows])


def _settings(seeds: range, depths: tuple[int, ...]) -> dict[str, str]:
    return {
        "matrix": f"{SIZE} × {SIZE}, positive semidefinite, eigenvalues uniform between 0 and 1",
        "measurements": f"{MEASURED}, positive semidefinite, eigenvalues uniform between 0 and 1",
        "start": "factors that are a multiple, the scale, of the identity",
        "off the basis": "the start has the product scale^N (I + S), S symmetric of norm "
        f"{OFF_DIAGONAL:g} with a diagonal of zeros",
        "scales of whole matrices": "off the basis and not commuting, "
        + ", ".join(f"{MATRIX_INIT_SCALES[depth]:g} at depth {depth}" for depth in depths),
        "integrated": f"gradient flow, to a mean loss of {LOSS_THRESHOLD:g}",
        "seeds": str(len(seeds)),
    }


def _spectrum(eigenvalues: NDArray[np.float64]) -> dict[str, Any]:
    values = torch.from_numpy(np.sort(np.abs(eigenvalues))[::-1].copy())
    return {
        "singular_values": values.tolist(),
        "nuclear_norm": float(values.sum()),
        "effective_rank": float(effective_rank(values)),
    }


def _least(problem: PositiveSensing, *, commuting: bool) -> dict[str, float]:
    solved = minimum_nuclear_norm_sensing(problem.measurements)
    symmetric = (solved.product + solved.product.T) / 2
    return {
        "least_nuclear_norm": float(least_trace(problem).sum()) if commuting else solved.nuclear_norm,
        "least_of_all": solved.nuclear_norm,
        "least_eigenvalue": float(torch.linalg.eigvalsh(symmetric)[0]),
    }


def _name(seed: int, depths: tuple[int, ...]) -> str:
    """Return a name that identifies the flows."""
    decides = [seed, depths, SIZE, MEASURED, LOSS_THRESHOLD, INIT_SCALES, MATRIX_INIT_SCALES, OFF_DIAGONAL]
    return f"seed-{seed}-{sha256(json_text(decides).encode()).hexdigest()[:16]}"


def _table(flows: pa.Table) -> pa.Table:
    keys = ["problem", "depth", "init_scale"]
    rows = []
    for one in flows.group_by(keys).aggregate([]).sort_by([(key, "ascending") for key in keys]).to_pylist():
        found = {name: by_seed(flows, name, **one) for name in ("nuclear_norm", "effective_rank")}
        least = by_seed(flows, "least_nuclear_norm", **one)
        rows.append(
            one
            | {
                "nuclear norm": float(np.median(found["nuclear_norm"])),
                "least nuclear norm": float(np.median(least)),
                "excess": float(np.median(found["nuclear_norm"] / least - 1)),
                "effective rank": float(np.median(found["effective_rank"])),
            }
        )
    return pa.Table.from_pylist(rows).rename_columns({"init_scale": "scale"})
