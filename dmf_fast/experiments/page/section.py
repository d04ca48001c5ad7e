"""The report of an experiment: claims with verdicts, figures, tables, settings, and the work done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dmf_fast.page.content import Picture, ResultTable

Verdict = Literal["reproduced", "not reproduced", "not tested"]


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, the rule that decides it, and the evidence.

    Attributes:
        statement: one sentence.
        source: paper and place, such as ``"Arora et al. 2019, figure 2"``.
        rule: what must hold in the data, in words that a reader can apply to the tables.
        verdict: computed from the data by that rule.
        evidence: the numbers used by the rule, or why the claim was not tested.

    """

    statement: str
    source: str
    rule: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class Work:
    """Steps of gradient descent of one kind in an experiment, for comparisons of speed.

    Attributes:
        task: ``"completion"`` or ``"sensing"``.
        dims: ``(d_0, …, d_N)``.
        observed: observed entries, or measurements.
        steps: total number, over all runs of this kind.

    """

    task: Literal["completion", "sensing"]
    dims: tuple[int, ...]
    observed: int
    steps: int


@dataclass(frozen=True)
class Section:
    """The report of one experiment.

    Attributes:
        title: of the section.
        introduction: a few sentences on what is shown and how to read it.
        settings: sizes, rates, seeds: name to value as text.
        claims, figures, tables: the results; no figures or tables if nothing could be run.
        work: the steps taken; see `Work`.
        paper: the source of the statements, with authors and year, shown under the title.
        group: the heading of the page under which it appears.

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
