"""Options about data: what is read, how, and what of it validates and tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

import torch

from dmf_fast.cli.defaults import setting
from dmf_fast.cli.option import option
from dmf_fast.data import ReadOptions

DTYPES = {"float32": torch.float32, "float64": torch.float64}
DATA_CHOICES = {
    "split": ("random", "time"),
    "duplicates": ("error", "first", "last", "mean", "sum"),
    "unknown": ("mean", "nan", "raise"),
    "dtype": tuple(DTYPES),
}


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """How files of ratings or pairs are read."""

    columns: Annotated[
        str | None,
        option("Row, column, value columns by name or position: user,item,rating. [default: recognised]"),
    ] = None
    separator: Annotated[str | None, option("Separator of a text table. [default: sniffed]")] = None
    strict: Annotated[
        bool, option("Stop at the first bad row. [default: bad rows are skipped and shown]", "--strict")
    ] = False

    def read_options(
        self,
        *,
        text_ids: tuple[bool, bool] = (False, False),
        dtype: str = "float32",
        times: bool = False,
    ) -> ReadOptions:
        """Return how to read a file whose ids are text where ``text_ids`` says so."""
        return ReadOptions(
            columns=None if self.columns is None else [name.strip() for name in self.columns.split(",")],
            separator=self.separator,
            dtype=cast(Literal["float32", "float64"], dtype),
            times=times,
            text_ids=text_ids,
            strict=self.strict,
        )


@dataclass(frozen=True, kw_only=True)
class DataSettings(TableSettings):
    """What is trained, validated and tested on."""

    test: Annotated[Path | None, option("File of test ratings; it chooses nothing. [default: none]")] = None
    validation: Annotated[
        Path | None,
        option("File of ratings that choose the best step. [default: a part of RATINGS]"),
    ] = None
    validation_fraction: Annotated[
        float | None,
        setting(
            "validation_fraction",
            "Part of RATINGS kept aside to choose the best step.",
            min=0.0,
            max=0.9,
        ),
    ] = None
    split: Annotated[
        str, option("Which part of RATINGS is kept aside: random or time (the latest). [default: random]")
    ] = "random"
    top_k: Annotated[
        int | None,
        option("Measure the first so many recommendations on the test ratings, too. [default: none]", min=1),
    ] = None
    relevant_from: Annotated[
        float | None,
        option("With --top-k: the least value of a relevant test rating. [default: all are relevant]"),
    ] = None
    unknown: Annotated[
        str,
        option(
            "Test pairs with an id that RATINGS lacks: mean (plus known bias), nan (left out of the test "
            "RMSE) or raise. [default: mean]"
        ),
    ] = "mean"
    duplicates: Annotated[
        str, option("A pair that stands twice: error, first, last, mean or sum. [default: error]")
    ] = "error"
    cache: Annotated[
        Path | None, option("Folder that keeps RATINGS ready for the next time. [default: none]")
    ] = None
    dtype: Annotated[str, option("float32 or float64. [default: float32]")] = "float32"
