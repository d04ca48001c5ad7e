"""Ready-made experiments: synthetic problems, one training run, the paper's setting."""

from __future__ import annotations

from dmf_fast.experiments.completion_run import CompletionRun, RunSettings, run_completion
from dmf_fast.experiments.default import PaperSetting, run
from dmf_fast.experiments.optimizers import OPTIMIZERS
from dmf_fast.experiments.synthetic import LowRankProblem, low_rank_problem

__all__ = [
    "OPTIMIZERS",
    "CompletionRun",
    "LowRankProblem",
    "PaperSetting",
    "RunSettings",
    "low_rank_problem",
    "run",
    "run_completion",
]
