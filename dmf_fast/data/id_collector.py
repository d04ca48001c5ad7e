"""Finds the distinct ids of a column in a single pass, with four bytes of memory per entry."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data.arrow_types import decoded_type
from dmf_fast.data.chunks import ROWS_A_CHUNK
from dmf_fast.data.growing_array import GrowingArray
from dmf_fast.data.id_map import IdMap

_PENDING_ENTRIES = 8 * ROWS_A_CHUNK


class IdCollector:
    """The ids of a column, chunk by chunk.

    Every chunk is dictionary-encoded when it arrives. From time to time, the dictionaries of the chunks are
    merged into one, in the order in which ids first occur; at the end, the int32 codes become indices into
    the sorted ids. So the column is read once and never kept.
    """

    def __init__(self, *, text: bool) -> None:
        """Collect ids as text, or as integers for as long as all of them are."""
        self._kind = pa.large_string() if text else pa.int64()
        self._known = pa.array([], self._kind)
        self._codes: GrowingArray[np.int32] = GrowingArray(np.int32)
        self._pending: list[pa.DictionaryArray] = []
        self._pending_entries = 0

    def add(self, ids: pa.Array) -> None:
        """Append a chunk of int64 or large_string; text among integers makes all of them text."""
        if decoded_type(ids.type) != self._kind:
            if self._kind == pa.int64():
                self._become_text()
            else:
                ids = ids.cast(self._kind)
        self._pending.append(ids.dictionary_encode())
        self._pending_entries += len(ids)
        # A merge visits all known ids: the more there are, the less often it happens.
        if self._pending_entries > max(_PENDING_ENTRIES, 4 * len(self._known)):
            self._merge()

    def finish(self) -> tuple[NDArray[np.int32], IdMap]:
        """Return the index of every entry and the map of the ids; the collector is used up."""
        self._merge()
        id_map = IdMap(self._known)
        order = id_map.indices(self._known).astype(np.int32)
        indices = self._codes.finish()
        for start in range(0, len(indices), ROWS_A_CHUNK):
            part = indices[start : start + ROWS_A_CHUNK]
            part[:] = order[part]
        return indices, id_map

    def _become_text(self) -> None:
        self._kind = pa.large_string()
        self._known = self._known.cast(self._kind)
        self._pending = [
            pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(self._kind))
            for chunk in self._pending
        ]

    def _merge(self) -> None:
        dictionaries = [chunk.dictionary for chunk in self._pending]
        merged = pa.concat_arrays([self._known, *dictionaries]).dictionary_encode()
        code_of = merged.indices.to_numpy()[len(self._known) :]
        for chunk in self._pending:
            self._codes.append(code_of[chunk.indices.to_numpy()])
            code_of = code_of[len(chunk.dictionary) :]
        self._known, self._pending, self._pending_entries = merged.dictionary, [], 0
