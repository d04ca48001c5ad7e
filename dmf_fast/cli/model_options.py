"""The options of the commands that use a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dmf_fast.cli.options import TableOptions, Unknown, check_relevance
from dmf_fast.options import Option, Options


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """Which model of which folder is used."""

    folder: Annotated[Path, Option("Folder that dmf-fast complete or tune has written.", argument="MODEL")]
    depth: Annotated[
        int | None, Option("Which model, if the folder holds several.", least=1, none="the best")
    ] = None


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(TableOptions, ModelOptions):
    """Measure a trained model on test ratings: RMSE, MAE, calibration and, with --top-k, rankings.

    It is compared with the mean and the biases of its training ratings; pairs with unknown ids are shown
    separately.
    """

    test: Annotated[Path, Option("File of test ratings, as for dmf-fast complete.", argument="TEST")]
    ratings: Annotated[
        Path | None,
        Option("File of the training ratings, for the baselines.", none="as stored in MODEL"),
    ] = None
    top_k: Annotated[int | None, Option("Also measure the first K recommendations.", least=1)] = None
    relevant_from: Annotated[
        float | None, Option("The lowest value of a relevant test rating.", none="all are relevant")
    ] = None
    as_json: Annotated[bool, Option("Print one JSON object instead of tables.", key="json")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_relevance(self.top_k, self.relevant_from)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(TableOptions, ModelOptions):
    """Predict the value of every pair of a file, in the order of the file.

    The column known says whether both ids are known; otherwise the prediction is a fallback.
    """

    pairs: Annotated[
        Path, Option("File of (user, item) pairs: text, Parquet, .mtx or .npz.", argument="PAIRS")
    ]
    out: Annotated[Path | None, Option("File to write, .csv or .parquet.", none="CSV on standard output")] = (
        None
    )
    unknown: Annotated[
        Unknown, Option("What to predict for pairs with an unknown id: mean (plus known bias), nan or raise.")
    ] = "mean"
    columns: Annotated[
        str | None, Option("Columns with user and item, by name or position: user,item.", none="recognized")
    ] = None
    overwrite: Annotated[bool, Option("Replace the file --out.")] = False


@dataclass(frozen=True, kw_only=True)
class RecommendOptions(ModelOptions):
    """Recommend to USER the items with the highest predictions among those not in the ratings.

    --all and --users FILE write recommendations for many users to a file; --similar ITEM shows similar items.
    """

    user: Annotated[
        str | None,
        Option("Id of the user, as in the ratings; put -- before an id that begins with -.", argument="USER"),
    ] = None
    all_users: Annotated[bool, Option("Recommend to every user, and write the file --out.", key="all")] = (
        False
    )
    users: Annotated[
        Path | None, Option("File with one user id per line: recommend to these, and write --out.")
    ] = None
    similar: Annotated[str | None, Option("Id of an item: show the items most similar to it.")] = None
    candidates: Annotated[
        str | None,
        Option(
            "Recommend only these items: ids separated by commas, or @FILE with one per line.", none="all"
        ),
    ] = None
    exclude: Annotated[
        str | None, Option("Recommend none of these items: ids or @FILE, as for --candidates.")
    ] = None
    count: Annotated[int, Option("Number of items.", least=1)] = 10
    seen: Annotated[bool, Option("Also recommend what is in the ratings.")] = False
    out: Annotated[Path | None, Option("File for --all or --users, .csv or .parquet.")] = None
    overwrite: Annotated[bool, Option("Replace the file --out.")] = False
    as_json: Annotated[bool, Option("Print one JSON object instead of a table.", key="json")] = False


@dataclass(frozen=True, kw_only=True)
class ExportOptions(ModelOptions):
    """Write the model as two factors with biases and ids, whatever its depth.

    A prediction is mean + row bias + column bias + row factors · column factors, not clipped.
    """

    out: Annotated[
        Path, Option("File to write, .npz or .safetensors; or a folder, .parquet.", argument="OUT")
    ]
    rank: Annotated[
        int | None,
        Option("Width of the two factors: the best approximation of that rank.", least=1, none="all"),
    ] = None
    overwrite: Annotated[bool, Option("Replace OUT.")] = False


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """Write report.html, the page that dmf-fast complete leaves in its folder, again.

    It shows the data, what was chosen, learning curves, errors, recommendations and settings.
    """

    folder: Annotated[Path, Option("Folder that dmf-fast complete or tune has written.", argument="MODEL")]


@dataclass(frozen=True, kw_only=True)
class InfoOptions(Options):
    """Print what a trained folder contains; without one, versions, instruction set, threads and CUDA."""

    folder: Annotated[
        Path | None, Option("Folder that dmf-fast complete or tune has written.", argument="MODEL")
    ] = None
