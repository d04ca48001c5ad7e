"""What an experiment reports: claims with their verdicts, figures, tables, settings, and the work it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dmf_fast.page.content import Picture, ResultTable

Verdict = Literal["reproduced", "not reproduced", "not tested"]


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, the rule that decides on it, and what the data say.

    Attributes:
        statement: one sentence.
        source: paper and place, such as ``"Arora et al. 2019, figure 2"``.
        rule: what must hold in the data, in words that a reader could apply to the tables.
        verdict: computed from the data by that rule.
        evidence: the numbers that the rule looked at, or why it was not tested.

    """

    statement: str
    source: str
    rule: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class Work:
    """Steps of gradient descent of one kind that an experiment made, for comparisons of speed.

    Attributes:
        task: ``"completion"`` or ``"sensing"``.
        dims: ``(d_0, …, d_N)``.
        observed: observed entries, or measurements.
        steps: of all runs of this kind together.

    """

    task: Literal["completion", "sensing"]
    dims: tuple[int, ...]
    observed: int
    steps: int


@dataclass(frozen=True)
class Section:
    """The report of one experiment; its time is taken by who ran it.

    Attributes:
        title: of the section.
        introduction: what is shown and how to read it, a few sentences.
        settings: sizes, rates, seeds: name to value as text.
        claims, figures, tables: what came out; no figures and tables where nothing could be run.
        work: steps made, see `Work`.
        paper: whose statements are looked at: authors and year, shown under the title.
        group: the heading that it stands under, set by who orders the page.

    """

    title: str
    introduction: str
    settings: Mapping[str, str]
    claims: Sequence[Claim]
    figures: Sequence[Picture] = ()
    tables: Sequence[ResultTable] = ()
    work: Sequence[Work] = ()
    paper: str = ""
    group: str = ""


def verdict(holds: bool) -> Verdict:
    """Return the verdict for a rule that holds or does not.

    >>> verdict(True), verdict(False)
    ('reproduced', 'not reproduced')
    """
    return "reproduced" if holds else "not reproduced"
