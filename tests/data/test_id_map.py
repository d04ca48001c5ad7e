"""Id maps: one-to-one, independent of the order, kept in a file."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmf_fast.data import DataError, IdMap, ObjectIdMap, id_map_of
from dmf_fast.data.raw_ids import id_array, written


@pytest.mark.parametrize("ids", [[30, -7, 30, 2**63 - 1], ["b", "é", "", "b", "007", "7"]])
def test_every_id_comes_back_from_its_index(ids: list[int] | list[str]) -> None:
    id_map = IdMap(pa.array(ids))

    assert id_map.ids_at(id_map.indices(pa.array(ids))).to_pylist() == ids
    assert len(id_map) == len(set(ids))


def test_indices_are_contiguous_and_do_not_depend_on_the_order_of_the_ids() -> None:
    forwards, backwards = IdMap(pa.array([5, 9, 1])), IdMap(pa.array([9, 1, 5, 5]))

    assert forwards.indices(pa.array([1, 5, 9])).tolist() == [0, 1, 2]
    assert backwards.indices(pa.array([1, 5, 9])).tolist() == [0, 1, 2]


def test_ids_in_several_chunks_make_one_map() -> None:
    chunks = pa.chunked_array([["ann", "bob"], ["cid", "ann"], ["zoe"]])

    id_map = IdMap(chunks)

    assert id_map.ids.to_pylist() == ["ann", "bob", "cid", "zoe"]
    assert id_map.indices(chunks).tolist() == [0, 1, 2, 0, 3]


def test_an_unknown_id_has_the_index_minus_one() -> None:
    indices = IdMap(pa.array([5, 9])).indices(pa.array([9, 7, 5]))

    assert indices.tolist() == [1, -1, 0]
    assert indices.dtype == np.int64


SEVEN: list[Any] = [7, "7", " 7\t", "7.0", "\ufeff7", "7.", 7.0, np.float32(7), np.int8(7), Decimal("7.0")]
OTHERS: list[Any] = ["007", "+7", "7e0", "0x7", "", "7.5", 7.5, -7, True, b"7", (7,), None, 2**70, "٧"]


@pytest.mark.parametrize("id_map", [IdMap([7, 10]), IdMap(["7", "x"]), ObjectIdMap([7, (1, 2)])])
def test_an_id_is_found_however_it_is_written(id_map: IdMap) -> None:
    own = id_map.indices([7])[0]

    assert own >= 0
    assert [id_map.indices([key])[0] for key in SEVEN] == [own] * len(SEVEN)
    assert id_map.indices(SEVEN).tolist() == [own] * len(SEVEN)
    assert [id_map.indices([key])[0] for key in OTHERS] == [-1] * len(OTHERS)
    assert id_map.indices(OTHERS).tolist() == [-1] * len(OTHERS)


@pytest.mark.parametrize(
    "key", [2**63 - 1, -(2**63), 2**64, "18446744073709551616", 2.5, "2.5", "zo\xa0e ", "0"]
)
def test_text_and_numbers_of_any_size_are_found_as_they_are_written(key: Any) -> None:
    id_map = id_map_of([str(key), "x"])

    assert (
        id_map.indices([key]).tolist()
        == id_map.indices([str(key)]).tolist()
        == id_map.indices([f" {key}"]).tolist()
    )
    assert id_map.indices([key])[0] >= 0


def test_a_written_id_is_trimmed_as_python_and_arrow_agree() -> None:
    letters = [chr(code) for code in range(0x3100) if not 0xD800 <= code < 0xE000] + ["\ufeff"]
    texts = [f"{letter}x{letter}" for letter in letters]

    assert id_array(texts).to_pylist() == [written(text) for text in texts]


@pytest.mark.parametrize("ids", [[3, 1, 2], ["b", "a"]])
def test_a_saved_map_loads_as_it_was(tmp_path: Path, ids: list[int] | list[str]) -> None:
    id_map = IdMap(pa.array(ids))
    id_map.save(tmp_path / "ids.parquet")

    assert IdMap.load(tmp_path / "ids.parquet").ids.equals(id_map.ids)


@pytest.mark.parametrize(
    "content", [None, b"", b"PAR1 and then nothing", b"PAR1\x1b[31m\0\0\0\x07\0\0\0PAR1"]
)
def test_a_file_that_is_no_map_is_refused_in_words_that_can_be_shown(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ids.parquet"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"ids\.parquet (is not an id map|cannot be read)") as caught:
        IdMap.load(path)
    assert str(caught.value).isprintable()


def test_a_map_with_an_id_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 1]}), tmp_path / "ids.parquet")

    with pytest.raises(DataError, match="twice"):
        IdMap.load(tmp_path / "ids.parquet")


def test_an_index_outside_the_map_is_refused() -> None:
    for outside in (-1, 2):
        with pytest.raises(IndexError, match=r"`indices` must be from 0 to 1, got"):
            IdMap(pa.array([5, 9])).ids_at([outside])


def test_missing_and_floating_ids_are_refused() -> None:
    for missing in ([1, None], ["a", None], [1.0, np.inf]):
        with pytest.raises(ValueError, match="missing"):
            IdMap(missing)
    with pytest.raises(TypeError, match="integers or text"):
        IdMap(pa.array([1.5]))


def test_a_map_whose_text_is_no_utf_8_is_damaged(tmp_path: Path) -> None:
    damaged = pa.array([b"ann", b"b\xffb"]).cast(pa.large_binary()).view(pa.large_string())
    pq.write_table(pa.table({"id": damaged}), tmp_path / "ids.parquet")
    with pytest.raises(DataError, match=r"ids\.parquet is not an id map, or is damaged"):
        IdMap.load(tmp_path / "ids.parquet")
