"""Nuclear norm minimization with certificates, the convex alternative to deep factorization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.convex.completion import minimum_nuclear_norm, nuclear_norm_path, nuclear_norm_regression
    from dmf_fast.convex.low_rank import LowRank
    from dmf_fast.convex.solution import ConvexOptions, ConvexSolution

__all__ = [
    "ConvexOptions",
    "ConvexSolution",
    "LowRank",
    "minimum_nuclear_norm",
    "nuclear_norm_path",
    "nuclear_norm_regression",
]

import_lazily(__name__)
