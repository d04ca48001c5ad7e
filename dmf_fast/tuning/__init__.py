"""Search for the best options of a completion with Optuna."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.tuning.options import TuningOptions
    from dmf_fast.tuning.search import TuningResult, tune
    from dmf_fast.tuning.search_space import SearchSpace
    from dmf_fast.tuning.trial import TuningTrial, TuningTrialState

__all__ = ["SearchSpace", "TuningOptions", "TuningResult", "TuningTrial", "TuningTrialState", "tune"]

import_lazily(__name__)
