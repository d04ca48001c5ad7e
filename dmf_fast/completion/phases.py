"""The phases of a job: where each begins, in the search and in the refit, and how long it runs."""

from __future__ import annotations

from dataclasses import replace

from dmf_fast.completion.lbfgs import fast_options, fast_start, is_fast
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.starts import Phase, Prepared, Start, begin_descent
from dmf_fast.training import FitOptions

# The patience of a phase that begins at the best of another is this part of the patience near zero.
_SOONER = 4


def begin(phase: Phase, prepared: Prepared, options: CompletionOptions, before: Start | None = None) -> Start:
    """Return where a phase begins, after the phase ``before`` has ended, whose model is left as it is."""
    if is_fast(phase, options):
        return fast_start(phase, prepared, options)
    return begin_descent(phase, prepared, options, before)


def search_options(phase: Phase, options: CompletionOptions, fit: FitOptions) -> FitOptions:
    """Return how long a phase of the search runs."""
    if is_fast(phase, options):
        return fast_options(options, fit)
    if phase.start == "product" and fit.patience is not None:
        return replace(fit, patience=max(1, fit.patience // _SOONER))
    return fit
