"""Search for the settings of a completion that predict validation entries best, with Optuna."""

from __future__ import annotations

from dmf_fast.tuning.search import TuningOptions, TuningResult, tune
from dmf_fast.tuning.search_space import SearchSpace
from dmf_fast.tuning.trial import TrialState, TuningTrial

__all__ = ["SearchSpace", "TrialState", "TuningOptions", "TuningResult", "TuningTrial", "tune"]
