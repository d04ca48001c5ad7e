"""Trials whose results are cached in a folder, and the steps that they took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dmf_fast.chain import dims_of
from dmf_fast.experiments.page.section import Work
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.training import Trial, TrialResult, Trials, fit_many


def run_trials(trials: Sequence[Trial], reproduction: Reproduction, name: str) -> Trials:
    """Run all trials of an experiment, or load earlier results.

    Raises `KeyboardInterrupt` after Ctrl-C; finished runs are kept, but no partial results are returned.
    """
    ended = fit_many(trials, folder=reproduction.folder / name, progress=reproduction.progress)
    if len(ended.results) < len(trials):
        raise KeyboardInterrupt
    return ended


def work_of(results: Sequence[TrialResult]) -> list[Work]:
    """Return the total steps of all runs of each kind, shallow chains first."""
    steps: Counter[tuple[int, tuple[int, ...], int]] = Counter()
    for one in results:
        dims = dims_of(one.factors)
        steps[len(dims), dims, one.trial.train.nnz] += one.result.steps
    return [Work("completion", dims, observed, count) for (_, dims, observed), count in sorted(steps.items())]
