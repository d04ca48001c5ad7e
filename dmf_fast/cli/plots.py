"""Pictures of a run: the losses and the singular values over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

_LOSS_COLUMNS = {"train_loss": "-", "validation_rmse": "--", "test_rmse": ":"}


def plot_losses(history: pa.Table, path: Path) -> None:
    """Draw the train loss and, where there are any, the validation and test RMSE of every model."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for color, (model, table) in enumerate(_by_model(history)):
        for name, style in _LOSS_COLUMNS.items():
            values = _column(table, name)
            if np.isfinite(values).any():
                label = f"{model}, {name.replace('_', ' ')}"
                axes.plot(_column(table, "step"), values, style, color=f"C{color}", label=label)
    axes.set(xlabel="step", yscale="log", title="Losses")
    _finish(figure, axes, path)


def plot_singular_values(history: pa.Table, path: Path) -> None:
    """Draw the largest singular values of the product over the steps, one panel a model; none: no file."""
    names = [name for name in history.column_names if name.startswith("singular_value_")]
    if not names:
        return
    models = _by_model(history)
    figure = Figure(figsize=(1 + 4.5 * len(models), 4), layout="constrained")
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axes, (model, table) in zip(panels, models, strict=True):
        for name in names:
            axes.plot(_column(table, "step"), _column(table, name))
        axes.set(xlabel="step", title=f"{model}: singular values")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _by_model(history: pa.Table) -> list[tuple[str, pa.Table]]:
    models = history.column("model")
    return [(model, history.filter(pc.equal(models, model))) for model in pc.unique(models).to_pylist()]


def _column(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64, NaN where it says nothing or is not there."""
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    values: np.ndarray = table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _finish(figure: Figure, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
