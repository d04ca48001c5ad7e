"""Where recovery starts: the rules by hand-made errors, the figure and the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from dmf_fast.experiments.recovery import sensing_sweep
from dmf_fast.experiments.recovery.sensing_grid import SensingGrid
from dmf_fast.experiments.recovery.sensing_runs import SensingResults
from dmf_fast.page.content import Picture

# Of rank 1: 39 degrees of freedom, and a statistical dimension of 81, so that 80 is too near to ask of it.
GRID = SensingGrid(20, 1, (45, 65, 80, 105), (2, 3), (1e-5,), 6e-3, 2, 2_000, nested=True)
RECOVERED, NOT = [1e-5, 9e-4], [1e-3, 0.2]
ERRORS = {
    "nuclear norm": {45: NOT, 65: NOT, 80: [1e-9, 1e-2], 105: RECOVERED},
    "depth 2": {45: NOT, 65: NOT, 80: RECOVERED, 105: NOT},
    "depth 3": {45: [1e-5, 1.0], 65: RECOVERED, 80: RECOVERED, 105: RECOVERED},
}


def results(changes: dict[tuple[str, int], list[float]] | None = None) -> SensingResults:
    runs: list[dict[str, Any]] = []
    convex: list[dict[str, Any]] = []
    for method, by_count in ERRORS.items():
        for count, errors in by_count.items():
            for seed, error in enumerate((changes or {}).get((method, count), errors)):
                row = {"measured": count, "seed": seed, "reconstruction_mse": error}
                if method == "nuclear norm":
                    convex.append(row)
                else:
                    runs.append(row | {"depth": int(method[-1]), "init_scale": 1e-5})
    return SensingResults(GRID, pa.Table.from_pylist(runs), pa.Table.from_pylist(convex))


@pytest.mark.parametrize(
    ("changes", "nuclear_norm", "depth_3"),
    [
        ({}, True, True),
        ({("nuclear norm", 80): RECOVERED}, True, True),
        ({("nuclear norm", 105): [1e-5, 1e-3]}, False, True),
        ({("nuclear norm", 65): [0.2, 9e-4]}, False, False),
        ({("nuclear norm", 45): [0.2, 9e-4]}, False, True),
        ({("depth 3", 65): [1e-5, 1e-3]}, True, False),
        ({("depth 3", 65): NOT, ("depth 3", 45): RECOVERED}, True, True),
        ({("depth 3", 65): [1e-5, np.nan]}, True, False),
    ],
)
def test_the_data_decide(
    changes: dict[tuple[str, int], list[float]], nuclear_norm: bool, depth_3: bool
) -> None:
    verdicts = [claim.verdict == "reproduced" for claim in sensing_sweep.claims(results(changes))]
    assert verdicts == [nuclear_norm, depth_3]


def test_the_rules_name_the_numbers_that_they_look_at() -> None:
    nuclear_norm, depth_3 = sensing_sweep.claims(results())
    assert "by 10% or more (105)" in nuclear_norm.rule
    assert "by 10% or more (45, 65)" in nuclear_norm.rule
    assert nuclear_norm.evidence == "Recovered: 45: 0%; 65: 0%; 80: 50%; 105: 100% of the seeds."
    # Depth 2 has recovered every seed at 80, but not at 105.
    assert depth_3.evidence.startswith(
        "It holds at 65. All seeds are recovered: by nuclear norm from 105 on, by depth 2 nowhere, by "
        "depth 3 from 65 on."
    )


def test_the_table_says_how_many_seeds_are_recovered() -> None:
    rows = sensing_sweep.table(results()).to_pylist()
    assert [row["measurements"] for row in rows] == [45] * 3 + [65] * 3 + [80] * 3 + [105] * 3
    assert rows[2] == {
        "measurements": 45,
        "method": "depth 3",
        "initial scale": "1e-05",
        "median error": pytest.approx(0.5, rel=1e-3),
        "least": 1e-5,
        "largest": 1.0,
        "for each degree of freedom": 45 / 39,
        "over the statistical dimension": pytest.approx(45 / 80.86, rel=1e-3),
        "seeds recovered": 1,
    }


def test_the_figure_draws_errors_and_both_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Picture, "of", staticmethod(lambda figure, caption: figure))
    figure: Any = sensing_sweep.picture(results())
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    lines = {str(line.get_label()): line for line in axes.lines}
    assert np.asarray(lines["depth 3"].get_xdata()).tolist() == [45, 65, 80, 105]
    np.testing.assert_allclose(
        np.asarray(lines["nuclear norm"].get_ydata()), [0.1005, 0.1005, (1e-2 + 1e-7) / 2, 4.55e-4]
    )
    places = [np.asarray(line.get_xdata()) for line in axes.lines]
    vertical = [float(x[0]) for x in places if x.size == 2]
    assert vertical == pytest.approx([39, 80.86], rel=1e-3)
    assert [text.get_text() for text in axes.texts] == ["degrees of freedom: 39", "statistical dimension: 81"]
