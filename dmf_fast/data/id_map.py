"""Maps raw ids to matrix indices and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dmf_fast.data.arrow_types import is_text
from dmf_fast.data.errors import DataError
from dmf_fast.data.raw_ids import as_list, id_array, text_ids, whole_numbers, written
from dmf_fast.files.atomic import atomic_file
from dmf_fast.files.reading import reading


class IdMap:
    """A one-to-one map between raw ids (integers or text) and the indices 0, 1, ….

    Ids are compared by the rules of `dmf_fast.data.raw_ids`, regardless of how they are written. They are
    sorted, so the same ids in any order give the same map.

    Args:
        ids: integers or text, of shape ``(len,)``, none missing: an array, a column of a data frame or a
            list. Repeated ids count once.

    Raises:
        TypeError: the ids are neither integers nor text; see `id_map_of` for other types.
        ValueError: an id is missing.

    Example:
        >>> users = IdMap(["bob", "ann", "bob"])
        >>> users.indices(["ann", "zoe"]).tolist(), users.ids_at([1]).tolist()
        ([0, -1], ['bob'])

    """

    def __init__(self, ids: Any) -> None:
        kept = id_array(ids)
        if kept is None:
            raise TypeError("`ids` must be integers or text, got others; use id_map_of for them")
        if kept.null_count:
            raise ValueError(f"`ids` must not be missing, got {kept.null_count} nulls; drop them first")
        # Dictionary encoding finds the distinct ids in one pass over the entries.
        encoded = kept.dictionary_encode()
        distinct = encoded.unify_dictionaries().chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
        dictionary = distinct.dictionary
        self._ids = dictionary.take(pc.sort_indices(dictionary))

    @property
    def ids(self) -> Any:
        """The ids in the order of their indices: pyarrow array of int64 or large_string, shape ``(len,)``."""
        return self._ids

    @property
    def holds_text(self) -> bool:
        """Whether the ids are text rather than integers."""
        return is_text(self._ids.type)

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"IdMap({len(self)} ids of {'text' if self.holds_text else 'int64'})"

    def indices(self, ids: Any) -> NDArray[np.int64]:
        """Return the index of every id, or -1 for ids that are not in the map.

        Ids are compared by their written form: 7, 7.0, "7" and " 7.0" are the same id.

        Args:
            ids: of any type, shape ``(len,)``: an array, a column of a data frame or a list.

        Returns:
            int64, shape ``(len,)``.

        Raises:
            TypeError: ``ids`` is not a sequence.

        Example:
            >>> IdMap([10, 30]).indices(["30", 20.0, None]).tolist()
            [1, -1, -1]

        """
        wanted = id_array(ids)
        if wanted is None:
            texts = [text if isinstance(text := written(key), str) else None for key in as_list(ids)]
            wanted = pa.array(texts, pa.large_string())
        found = pc.index_in(self._like_mine(wanted), value_set=self._ids)
        positions: NDArray[np.int64] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return positions

    def ids_at(self, indices: Any) -> Any:
        """Return the ids at some indices.

        Args:
            indices: integers from 0 to ``len - 1``, shape ``(asked,)``.

        Returns:
            An array of the type of `ids`, shape ``(asked,)``.

        Raises:
            IndexError: an index is out of range.

        Example:
            >>> IdMap([10, 30]).ids_at([1, 0]).to_pylist()
            [30, 10]

        """
        positions = np.asarray(indices, dtype=np.int64)
        if positions.size and not (positions.min() >= 0 and positions.max() < len(self)):
            raise IndexError(
                f"`indices` must be from 0 to {len(self) - 1}, got {positions.min()} to {positions.max()}"
            )
        return self._ids.take(positions)

    def save(self, path: str | Path) -> None:
        """Write the map to a Parquet file with one column, ``id``; it appears once it is complete."""
        import pyarrow.parquet as pq  # here, as it is slow to import

        with atomic_file(Path(path)) as partial:
            pq.write_table(pa.table({"id": self._ids}), partial)

    @classmethod
    def load(cls, path: str | Path) -> IdMap:
        """Read a map written by `save`; a `DataError` says why it cannot be read."""
        import pyarrow.parquet as pq  # here, as it is slow to import

        with reading(path, "an id map", "take the one that came with the model", DataError):
            ids = pq.read_table(path, columns=["id"]).column("id")
            ids.validate(full=True)  # Parquet does not check that text is UTF-8
            loaded = cls(ids)
            if len(loaded) != len(ids):
                raise ValueError("it holds an id twice")
            return loaded

    def _like_mine(self, ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        if is_text(ids.type) and not self.holds_text:
            return whole_numbers(text_ids(ids))[0]
        return ids.cast(self._ids.type)
