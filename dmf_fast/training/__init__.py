"""Training: `descend` in native code, `descend_many`, `gradient_flow`; and `fit`, for any torch optimiser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.training.descend import DescentResult, descend
    from dmf_fast.training.descend_many import descend_many
    from dmf_fast.training.descent_run import DescentCallback, DescentProgress
    from dmf_fast.training.fit import FitResult, fit
    from dmf_fast.training.gradient_flow import GradientFlow, gradient_flow
    from dmf_fast.training.history import history_table
    from dmf_fast.training.options import FitOptions
    from dmf_fast.training.recording import Recording
    from dmf_fast.training.rules import Adam, GradientDescent, GroupRMSprop, Rule
    from dmf_fast.training.run import Callback, Progress, StoppedBecause
    from dmf_fast.training.trials import Trial, TrialError, TrialResult, Trials

__all__ = [
    "Adam",
    "Callback",
    "DescentCallback",
    "DescentProgress",
    "DescentResult",
    "FitOptions",
    "FitResult",
    "GradientDescent",
    "GradientFlow",
    "GroupRMSprop",
    "Progress",
    "Recording",
    "Rule",
    "StoppedBecause",
    "Trial",
    "TrialError",
    "TrialResult",
    "Trials",
    "descend",
    "descend_many",
    "fit",
    "gradient_flow",
    "history_table",
]

import_lazily(__name__)
