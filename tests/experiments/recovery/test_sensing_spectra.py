"""Nuclear norms and effective ranks of sensed matrices: the rules by hand-made measures, figure and table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from dmf_fast.experiments.recovery import sensing, spectra
from dmf_fast.experiments.recovery.sensing_grid import SensingGrid
from dmf_fast.experiments.recovery.sensing_runs import SensingResults
from dmf_fast.page.content import Picture

GRID = SensingGrid(8, 1, (25, 60), (2, 3), (1e-1, 1e-2), 3e-2, 2, 300)


def results(
    norms: tuple[float, ...] = (9.0, 8.2),
    ranks: tuple[float, ...] = (1.0, 1.1),
    with_many: tuple[float, ...] = (8.0, 8.07),
) -> SensingResults:
    """Depth 3 has these with few, from 1e-2, and all depths with many; the least norm is 8, of rank 2."""
    runs: list[dict[str, Any]] = []
    convex: list[dict[str, Any]] = []
    for seed in range(2):
        for measured in GRID.measured:
            labels = {"measured": measured, "seed": seed}
            convex.append(labels | {"nuclear_norm": 8.0, "effective_rank": 2.0})
            for depth in GRID.depths:
                for scale in GRID.init_scales:
                    few = (norms if depth == 3 else (20.0, 20.0)) if scale == 1e-2 else (30.0, 30.0)
                    found = few if measured == 25 else with_many
                    runs.append(
                        labels
                        | {"depth": depth, "init_scale": scale}
                        | {"nuclear_norm": found[seed], "effective_rank": ranks[seed] * scale * 100}
                    )
    return SensingResults(GRID, pa.Table.from_pylist(runs), pa.Table.from_pylist(convex))


@pytest.mark.parametrize(
    ("given", "few", "many"),
    [
        ({}, True, True),
        ({"norms": (9.0, 7.9)}, False, True),
        ({"norms": (9.0, 8.079)}, False, True),
        ({"norms": (9.0, 8.081)}, True, True),
        ({"ranks": (1.0, 2.1)}, False, True),
        ({"with_many": (8.0, 8.09)}, True, False),
        ({"with_many": (7.9, 8.0)}, True, False),
    ],
)
def test_the_data_decide(given: dict[str, tuple[float, ...]], few: bool, many: bool) -> None:
    verdicts = [
        claim.verdict == "reproduced"
        for claim in spectra.claims(sensing.spectra_of(results(**given)), "paper")
    ]
    assert verdicts == [few, many]


def test_the_evidence_has_the_excess() -> None:
    few, many = spectra.claims(sensing.spectra_of(results()), "paper")
    assert "above by 2.50% to 12.50%" in few.evidence
    assert many.evidence == "depth 2: at most 0.88% off; depth 3: at most 0.88% off"


def test_the_table_has_the_medians_and_the_ground_truth() -> None:
    rows = spectra.table(sensing.spectra_of(results())).to_pylist()
    assert [row["solution"] for row in rows] == [
        "depth 2", "depth 3", "least nuclear norm", "ground truth",
    ] * 2  # fmt: skip
    assert rows[1] == {
        "measurements": 25, "solution": "depth 3",
        "nuclear norm": pytest.approx(8.6), "effective rank": pytest.approx(1.05),
    }  # fmt: skip
    # Of rank 1 and Frobenius norm 8.
    truth = {"nuclear norm": pytest.approx(8.0, rel=1e-4), "effective rank": pytest.approx(1.0, abs=1e-3)}
    assert rows[3] == {"measurements": 25, "solution": "ground truth"} | truth


def test_the_figure_draws_every_measure_by_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Picture, "of", staticmethod(lambda figure, caption: figure))
    figure: Any = spectra.picture(sensing.spectra_of(results()), "Rank 1")
    assert isinstance(figure, Figure)
    assert [axes.get_ylabel() for axes in figure.axes] == ["nuclear norm", "effective rank"] * 2
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert np.asarray(lines["depth 3"].get_xdata()).tolist() == [1e-2, 1e-1]
    np.testing.assert_allclose(np.asarray(lines["depth 3"].get_ydata()), [8.6, 30.0])
    np.testing.assert_allclose(np.asarray(lines["least nuclear norm"].get_ydata()), [8.0, 8.0])
    np.testing.assert_allclose(np.asarray(lines["ground truth"].get_ydata()), [8.0, 8.0], rtol=1e-4)
