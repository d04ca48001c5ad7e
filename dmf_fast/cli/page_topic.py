"""A part of the page about a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dmf_fast.page.content import Picture, ResultTable


@dataclass(frozen=True)
class Topic:
    """A heading, and what stands under it.

    Attributes:
        title: the heading.
        text: paragraphs, with an empty line between them.
        facts: name to text.
        more_facts: likewise, shown after the tables and folded away.
        figures, tables: shown after the facts.

    """

    title: str
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[Picture] = ()
    tables: Sequence[ResultTable] = ()
    more_facts: Mapping[str, str] = field(default_factory=dict)
