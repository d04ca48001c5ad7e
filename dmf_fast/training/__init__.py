"""Training: `fit` for one run, `fit_many` for many, `gradient_flow` for the limit of small steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.training.explain import explain
    from dmf_fast.training.fit import FitResult, fit
    from dmf_fast.training.fit_many import fit_many
    from dmf_fast.training.gradient_flow import GradientFlow, gradient_flow
    from dmf_fast.training.history import History
    from dmf_fast.training.options import FitOptions
    from dmf_fast.training.recording import Recording
    from dmf_fast.training.run import Callback, Progress, StoppedBecause
    from dmf_fast.training.trials import Trial, TrialError, TrialResult, Trials

__all__ = [
    "Callback",
    "FitOptions",
    "FitResult",
    "GradientFlow",
    "History",
    "Progress",
    "Recording",
    "StoppedBecause",
    "Trial",
    "TrialError",
    "TrialResult",
    "Trials",
    "explain",
    "fit",
    "fit_many",
    "gradient_flow",
]

import_lazily(__name__)
