"""A model card in Markdown: training data, settings, metrics and use of a model."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from dmf_fast.checks import printable
from dmf_fast.extras import require

CARD = "README.md"
"""The file of a trained folder that holds its card, which the Hugging Face Hub shows."""

Fact = str | int | float | bool | None


@dataclass(frozen=True)
class DataFacts:
    """The training data.

    Attributes:
        sources: origin of the data, such as names of files; empty if unknown.
        rows: rows of the matrix.
        columns: columns of the matrix.
        entries: number of observed entries; None if unknown.
        lowest: the smallest value.
        highest: the largest value.
        mean: the mean value.

    """

    sources: tuple[str, ...]
    rows: int
    columns: int
    entries: int | None
    lowest: float
    highest: float
    mean: float


@dataclass(frozen=True)
class TrainingFacts:
    """The run that produced the model.

    Attributes:
        steps: number of steps.
        seconds: duration of the training; None if unknown.
        chosen: the candidate with the lowest validation RMSE.
        candidates: validation RMSE of every candidate by its name; empty without validation ratings.

    """

    steps: int
    seconds: float | None
    chosen: str
    candidates: Mapping[str, float]


@dataclass(frozen=True)
class ModelCard:
    """The content of a model card.

    Attributes:
        title: its heading.
        data: what the model was trained on.
        settings: the training settings by name.
        training: the run that produced the model.
        metrics: metrics of the model, followed by those of the baselines, such as
            ``{"this model": {"test RMSE": 0.92}}``; None for metrics that were not measured.
        folder: folder of the model, for the commands that use it.
        versions: versions of the software that trained it, by name.

    """

    title: str
    data: DataFacts
    settings: Mapping[str, Fact]
    training: TrainingFacts
    metrics: Mapping[str, Mapping[str, float | None]]
    folder: str
    versions: Mapping[str, str]


def model_card(card: ModelCard) -> str:
    """Return the card as Markdown; the same facts give the same text.

    It begins with the metadata that the Hugging Face Hub reads.

    After Mitchell et al., "Model Cards for Model Reporting" (2019).

    Example:
        >>> data = DataFacts(("u.data",), 943, 1682, 100_000, 1, 5, 3.53)
        >>> training = TrainingFacts(9, 0.5, "depth 2", {})
        >>> card = ModelCard("Films", data, {"depth": 2}, training, {}, "model", {"dmf-fast": "0.1.0"})
        >>> "# Films" in model_card(card).splitlines()
        True

    """
    require("`model_card`", "jinja2")
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here, as it is slow to import

    environment = Environment(
        loader=PackageLoader("dmf_fast.serving", package_path=""),
        autoescape=False,  # Markdown; `text` escapes what would change a table
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": _text, "quoted": _quoted}
    names = dict.fromkeys(name for metrics in card.metrics.values() for name in metrics)
    return environment.get_template("model_card.md.jinja").render(
        card=card, metric_names=list(names), fence=_fence(card.folder)
    )


def _text(value: Fact) -> str:
    """Return a value for a cell of a table, on one line; bars and angle brackets are escaped."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return repr(value)
    line = printable(" ".join(str(value).split()))
    return re.sub(r"([\\|`*\[\]])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;")


def _quoted(path: str) -> str:
    """Return a path quoted for a shell, on one line."""
    if path == printable(path):
        return shlex.quote(path)
    return "$'" + printable(path.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def _fence(path: str) -> str:
    """Return the fence of a code block: more backticks than any run of them in the block."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", path)), default=0))
