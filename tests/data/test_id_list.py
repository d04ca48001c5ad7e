"""Files of ids, one per line, follow the rules of tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmf_fast.data import DataError, read_id_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7\n007\n 8.0 \n", ["7", "007", "8"]),
        ("user_id:token\nann\n", ["ann"]),
        ("movieId\n3\n", ["3"]),
        ('\ufeff"Smith, John"\r\nO"Neill\r\n\r\n"say ""hi"""\r', ["Smith, John", 'O"Neill', 'say "hi"']),
        ("zo\u2028e\nann, bob", ["zo\u2028e", "ann, bob"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_ids_of_all_lines_are_read(tmp_path: Path, text: str, expected: list[str], encoding: str) -> None:
    path = tmp_path / "users.txt"
    path.write_bytes(text.encode(encoding))

    assert read_id_list(path).to_pylist() == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "holds no ids"), (b"userId\n \n", "holds no ids"), (b"Jos\xe9\n", "UTF-8"), (b"a\0b\n", "NUL")],
)
def test_a_file_without_ids_ends_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "users.txt"
    path.write_bytes(content)

    with pytest.raises(DataError, match=words) as caught:
        read_id_list(path)
    assert str(path) in str(caught.value)
