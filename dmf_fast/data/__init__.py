"""Reads ratings of any size and kind, maps their ids to matrix indices and back, and stores them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.data.bad_rows import BadRows
    from dmf_fast.data.errors import DataError
    from dmf_fast.data.id_list import read_id_list
    from dmf_fast.data.id_map import IdMap
    from dmf_fast.data.in_memory import as_ratings
    from dmf_fast.data.object_id_map import ObjectIdMap, id_map_of
    from dmf_fast.data.options import ReadOptions
    from dmf_fast.data.ratings import Pairs, Ratings
    from dmf_fast.data.reader import read_pairs, read_ratings
    from dmf_fast.data.store import load_ratings, open_ratings, save_ratings

__all__ = [
    "BadRows",
    "DataError",
    "IdMap",
    "ObjectIdMap",
    "Pairs",
    "Ratings",
    "ReadOptions",
    "as_ratings",
    "id_map_of",
    "load_ratings",
    "open_ratings",
    "read_id_list",
    "read_pairs",
    "read_ratings",
    "save_ratings",
]

import_lazily(__name__)
