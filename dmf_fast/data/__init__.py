"""Readers of ratings files, and maps between raw ids and matrix indices."""

from __future__ import annotations

from dmf_fast.data.errors import DataError
from dmf_fast.data.id_map import IdMap
from dmf_fast.data.ratings_file import RatingsTable, read_pairs, read_ratings

__all__ = ["DataError", "IdMap", "RatingsTable", "read_pairs", "read_ratings"]
