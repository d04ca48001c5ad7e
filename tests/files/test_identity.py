"""The differences between two jobs are reported in words that fit on a screen."""

from __future__ import annotations

from dmf_fast.files.identity import first_difference


def test_a_difference_is_short_and_can_be_shown_whatever_a_file_holds() -> None:
    hostile = "\x1b[31m" + "x" * 10_000
    for before in ({hostile: 1}, {"lr": hostile}, [hostile], hostile):
        words = first_difference(before, {"lr": 1})
        assert words is not None
        assert words.isprintable()
        assert len(words) < 500
