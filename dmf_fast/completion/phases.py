"""The phases of a job: where each starts, in the search and in the refit, and how long it runs."""

from __future__ import annotations

from dataclasses import replace

from dmf_fast.completion.lbfgs import fast_options, fast_start, is_fast
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.starts import Phase, Prepared, Start, begin_descent
from dmf_fast.training import FitOptions

# A phase that starts at the best state of another has the patience of a start near zero, divided by this.
_SOONER = 4


def begin(phase: Phase, prepared: Prepared, options: CompletionOptions, before: Start | None = None) -> Start:
    """Return the start of a phase, after the phase ``before``, whose model is not modified."""
    if is_fast(phase, options):
        return fast_start(phase, prepared, options)
    return begin_descent(phase, prepared, options, before)


def search_options(phase: Phase, options: CompletionOptions, fit: FitOptions) -> FitOptions:
    """Return the options of a phase of the search."""
    if is_fast(phase, options):
        return fast_options(options, fit)
    if phase.start == "product" and fit.patience is not None:
        return replace(fit, patience=max(1, fit.patience // _SOONER))
    return fit
