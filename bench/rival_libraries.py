"""Libraries that factorise ratings, on the same train, validation and test entries."""

from __future__ import annotations

from bench.synthetic_ratings import movielens_like

__all__ = ["movielens_like"]
