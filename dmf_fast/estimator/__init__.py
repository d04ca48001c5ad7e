"""Matrix completion as an estimator in scikit-learn's conventions."""

from __future__ import annotations

from dmf_fast.estimator.completer import MatrixCompleter
from dmf_fast.estimator.ranking import Ranking

__all__ = ["MatrixCompleter", "Ranking"]
