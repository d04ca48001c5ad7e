"""Ready-made experiments: synthetic problems, the paper's setting, reproductions of papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.experiments.default import PaperSetting, run
    from dmf_fast.experiments.synthetic import LowRankProblem, low_rank_problem

__all__ = [
    "LowRankProblem",
    "PaperSetting",
    "low_rank_problem",
    "run",
]

import_lazily(__name__)
