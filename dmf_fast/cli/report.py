"""Results as a table for people, as JSON for machines, as a history over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from dmf_fast.completion import CompletionRun
from dmf_fast.experiments.text_files import json_text

# What a person sees of a run: heading and format by name.
_COLUMNS = {
    "depth": ("depth", "{}"),
    "steps": ("steps", "{:,}"),
    "seconds": ("seconds", "{:.1f}"),
    "train_loss": ("train loss", "{:.3g}"),
    "validation_rmse": ("valid. RMSE", "{:.4f}"),
    "test_rmse": ("test RMSE", "{:.4f}"),
    "reconstruction_mse": ("matrix MSE", "{:.3g}"),
}


def print_results(results: dict[str, Any], *, as_json: bool) -> None:
    """Print the results on standard output: one JSON object, or a short table."""
    if as_json:
        typer.echo(json_text(results))
        return
    data, runs = results["data"], results["runs"]
    shown = [name for name in _COLUMNS if any(run[name] is not None for run in runs)]
    table = Table(
        *(_COLUMNS[name][0] for name in shown),
        title=f"{data['rows']:,} x {data['columns']:,}, {data['entries']:,} entries, {runs[0]['optimizer']}",
    )
    for run in runs:
        table.add_row(*("-" if run[name] is None else _COLUMNS[name][1].format(run[name]) for name in shown))
    console = Console()
    console.print(table)
    if results["out"] is not None:
        console.print(f"Written to {results['out']}", highlight=False, soft_wrap=True)


def write_json(results: dict[str, Any], path: Path) -> None:
    """Write the results as the JSON object that ``--json`` prints."""
    path.write_text(json_text(results) + "\n")


def history_table(runs: list[CompletionRun]) -> pa.Table:
    """Return the histories of all runs, one below the other, with a column ``depth`` in front."""
    tables = []
    for run in runs:
        history = run.result.history
        tables.append(
            history.add_column(0, "depth", pa.array([run.settings.depth] * len(history), pa.int64()))
        )
    return pa.concat_tables(tables, promote_options="default")
