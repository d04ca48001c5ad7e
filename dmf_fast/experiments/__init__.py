"""Ready-made experiments: synthetic problems, the paper's setting, the paper reproduced."""

from __future__ import annotations

from dmf_fast.experiments.default import PaperSetting, run
from dmf_fast.experiments.synthetic import LowRankProblem, low_rank_problem

__all__ = [
    "LowRankProblem",
    "PaperSetting",
    "low_rank_problem",
    "run",
]
