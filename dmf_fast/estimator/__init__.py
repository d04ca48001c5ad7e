"""Matrix completion as an estimator in scikit-learn's conventions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.estimator.completer import MatrixCompleter
    from dmf_fast.estimator.ranking import Ranking

__all__ = ["MatrixCompleter", "Ranking"]

import_lazily(__name__, MatrixCompleter="sklearn")
