"""A history: columns of Python floats, tables of other libraries, and plots."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from matplotlib import pyplot

from dmf_fast import FitOptions, Observations, Recording, fit, gradient_flow
from dmf_fast.extras import MissingExtraError
from dmf_fast.training import FitResult, History

ROWS = [
    {"step": 0, "train_loss": 4.0, "validation_rmse": 2.0, "gradient_norm": None},
    {"step": 7, "train_loss": math.inf, "validation_rmse": None, "gradient_norm": None},
]


@pytest.fixture
def history() -> History:
    return History.of_rows(ROWS)


@pytest.fixture(scope="module")
def result() -> FitResult:
    """A run with a validation set and two singular values, recorded at steps 0, 10 and 20."""
    train, validation = Observations([0, 1], [0, 1], [3.0, 1.0]), Observations([0], [1], [0.5], (2, 2))
    return fit(
        [0.1 * torch.eye(2), torch.eye(2)], train, partial(torch.optim.SGD, lr=0.1), FitOptions(steps=20),
        validation=validation, recording=Recording(every=10, singular_values=2),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def test_numbers_are_floats_and_nan_where_nothing_was_measured(history: History) -> None:
    assert type(history["train_loss"][0]) is float
    assert history["step"] == [0, 7]
    assert history["train_loss"] == [4.0, math.inf]
    assert history["validation_rmse"] == pytest.approx([2.0, math.nan], nan_ok=True)
    assert all(map(math.isnan, history["gradient_norm"]))


def test_it_is_a_mapping_of_the_columns(history: History) -> None:
    assert list(history) == list(history.keys()) == list(ROWS[0])
    assert len(history) == 4
    assert "time" not in history
    with pytest.raises(KeyError, match=r"'time' was not recorded; the columns are step, train_loss"):
        history["time"]
    assert len(History.of_rows([])) == 0


def test_histories_are_equal_where_their_tables_are(history: History) -> None:
    assert history == History.of_rows(ROWS)
    assert history != History.of_rows(ROWS[:1])
    assert history != ROWS


def test_other_libraries_take_it_as_a_table(history: History) -> None:
    assert pl.from_arrow(history.table)["validation_rmse"].to_list() == [2.0, None]
    assert pl.DataFrame(history)["train_loss"].to_list() == [4.0, math.inf]
    frame = history.to_pandas()
    assert list(frame.columns) == list(history)
    assert frame["train_loss"].tolist() == [4.0, math.inf]


def test_a_plot_has_every_loss_that_was_measured_and_the_singular_values(result: FitResult) -> None:
    losses, values = result.plot()
    assert losses.get_yscale() == "log"
    assert [line.get_label() for line in losses.lines] == ["train loss", "validation RMSE"]
    for axes, names in (
        (losses, ["train_loss", "validation_rmse"]),
        (values, ["singular_value_1", "singular_value_2"]),
    ):
        assert axes.get_xlabel() == "step"
        for line, name in zip(axes.lines, names, strict=True):
            expected = np.array([result.history["step"], result.history[name]]).T
            np.testing.assert_array_equal(line.get_xydata(), expected)
    assert pyplot.get_fignums() == [losses.figure.number]  # which `pyplot.show` would show


def test_a_plot_of_gradient_flow_runs_over_time() -> None:
    train = Observations([0], [0], torch.tensor([3.0], dtype=torch.float64))
    flow = gradient_flow([torch.ones(1, 1, dtype=torch.float64)], train, [0.0, 0.5, 1.0])
    (axes,) = flow.history.plot()
    assert axes.get_xlabel() == "time"
    assert axes.lines[0].get_xdata().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("train", "validation", "scale"),
    [(0.0, None, "linear"), (0.0, 0.0, "linear"), (0.0, 0.5, "log"), (math.nan, None, "linear")],
)
def test_a_plot_is_logarithmic_only_if_a_loss_is_positive(
    train: float, validation: float | None, scale: str
) -> None:
    rows = [
        {"step": 0, "train_loss": train, "validation_rmse": validation},
        {"step": 1, "train_loss": math.inf, "validation_rmse": None},
    ]

    (axes,) = History.of_rows(rows).plot()

    axes.figure.canvas.draw()  # warns if nothing can be drawn
    assert axes.get_yscale() == scale
    assert len(axes.lines) == sum(one is not None and math.isfinite(one) for one in (train, validation))


def test_a_plot_without_matplotlib_says_how_to_install_it(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmf_fast.extras.is_installed", lambda package: package != "matplotlib")
    with pytest.raises(MissingExtraError, match=r"^`plot` needs Matplotlib: .*'dmf-fast\[plots\]'"):
        history.plot()


def test_training_does_not_import_matplotlib() -> None:
    import subprocess

    code = "import sys, dmf_fast; dmf_fast.fit; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
