"""The options of the commands that read ratings, train or reproduce: of the job, its input and its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from dmf_fast.completion.options import FAST, PAPER, CompletionOptions
from dmf_fast.data.options import ReadOptions
from dmf_fast.options import Option, Options
from dmf_fast.tuning.options import TuningOptions

Unknown = Literal["mean", "nan", "raise"]
Job = TypeVar("Job", bound="JobOptions")
_MOST_DEPTH = 100  # number of factors; nothing deeper trains


_RATINGS = CompletionOptions().changed(
    {"checkpoint_every": 50}
)  # out of a few hundred steps, which take seconds


@dataclass(frozen=True, kw_only=True)
class TableOptions(Options):
    """How files of ratings or pairs are read."""

    columns: Annotated[
        str | None,
        Option(
            "Columns with user, item and rating, by name or position: user,item,rating.", none="recognized"
        ),
    ] = None
    separator: Annotated[str | None, Option("Separator of a text table; \\t is a tab.", none="detected")] = (
        None
    )
    encoding: Annotated[
        str | None,
        Option("Encoding of a text table, such as latin-1.", none="UTF-8, or as its byte order mark says"),
    ] = None
    strict: Annotated[bool, Option("Stop at the first bad row instead of skipping it.")] = False

    def read_options(
        self,
        *,
        text_ids: tuple[bool, bool] = (False, False),
        dtype: Literal["float32", "float64"] = "float32",
        times: bool = False,
    ) -> ReadOptions:
        """Return how to read a file; ``text_ids`` says whether row and column ids are text."""
        return ReadOptions(
            columns=None if self.columns is None else [name.strip() for name in self.columns.split(",")],
            separator=self.separator,
            encoding=self.encoding,
            dtype=dtype,
            times=times,
            text_ids=text_ids,
            strict=self.strict,
        )


@dataclass(frozen=True, kw_only=True)
class EntryOptions(TableOptions):
    """How ratings become entries of a matrix."""

    duplicates: Annotated[
        Literal["error", "first", "last", "mean", "sum"],
        Option("What to do with a pair that occurs more than once."),
    ] = "error"
    dtype: Annotated[Literal["float32", "float64"], Option("Type of the values and the model.")] = "float32"


@dataclass(frozen=True, kw_only=True)
class DataOptions(EntryOptions):
    """The training, validation and test data."""

    test: Annotated[Path | None, Option("File of test ratings, which are only measured.")] = None
    validation: Annotated[
        Path | None,
        Option(
            "File of validation ratings, which choose the model and its best step.", none="part of RATINGS"
        ),
    ] = None
    split: Annotated[
        Literal["random", "time"],
        Option("Which part of RATINGS is held out for validation; time: the latest."),
    ] = "random"
    top_k: Annotated[
        int | None, Option("Also measure the first K recommendations on the test ratings.", least=1)
    ] = None
    relevant_from: Annotated[
        float | None,
        Option("With --top-k: the lowest value of a relevant test rating.", none="all are relevant"),
    ] = None
    unknown: Annotated[
        Unknown,
        Option(
            "Test pairs with an id not in RATINGS: mean (plus known bias), nan (excluded from the test "
            "RMSE) or raise."
        ),
    ] = "mean"
    cache: Annotated[Path | None, Option("Folder that caches RATINGS for the next run.")] = None
    reproducible: Annotated[
        bool, Option("With row blocks: bit-identical results for any number of processes.")
    ] = False

    def check(self, validation_fraction: float) -> None:
        """Raise a `ValueError` if options contradict one another."""
        if self.validation is not None and validation_fraction:
            raise ValueError(
                "--validation and --validation-fraction are mutually exclusive: give one of them"
            )
        if self.split == "time" and not validation_fraction:
            raise ValueError("--split time needs a --validation-fraction above 0 and no --validation")
        if self.test is None and self.top_k is not None:
            raise ValueError("--top-k needs --test: the test ratings that recommendations are measured on")
        check_relevance(self.top_k, self.relevant_from)

    def check_of_blocks(self) -> None:
        """Raise a `ValueError` if an option makes no sense for row blocks."""
        if self.cache is not None:
            raise ValueError("--cache must be omitted for row blocks, which need no cache")
        if self.split == "time":
            raise ValueError("--split must be random for row blocks, which have no times, got time")

    def check_without_ratings(self) -> None:
        """Raise a `ValueError` if an option makes no sense for the paper's setting."""
        for name in ("test", "validation", "cache"):
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} needs RATINGS: the paper's setting generates its own entries")
        if self.split == "time":
            raise ValueError("--split time needs RATINGS with times: the paper's setting has none")


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Options):
    """What a job writes and shows, and how it resumes after an interruption."""

    out: Annotated[Path | None, Option("Folder for the model and the results.", none="not saved")] = None
    overwrite: Annotated[bool, Option("Replace the folder --out if it exists.")] = False
    resume: Annotated[bool, Option("Resume an interrupted run with the same --out.")] = False
    tensorboard: Annotated[Path | None, Option("Folder to log the training to for TensorBoard.")] = None
    threads: Annotated[int | None, Option("Threads to use.", least=1, none="as torch chooses")] = None
    show_config: Annotated[
        bool, Option("Print all options as YAML for --config, and exit; without RATINGS, those for ratings.")
    ] = False
    as_json: Annotated[bool, Option("Print one JSON object instead of a table.", key="json")] = False
    quiet: Annotated[bool, Option("Show no progress.")] = False

    def check(self) -> None:
        """Raise a `ValueError` if options contradict one another."""
        if self.out is None and (self.resume or self.overwrite):
            raise ValueError("--resume and --overwrite need --out: name a folder")
        if self.resume and self.overwrite:
            raise ValueError("--resume and --overwrite are mutually exclusive: give one of them")


@dataclass(frozen=True, kw_only=True)
class JobOptions(Options):
    """The options of a job that trains on ratings.

    ``given`` holds the options that were set, by key.
    """

    ratings: Annotated[
        Path | None,
        Option(
            "File of (user, item, rating): text, Parquet, .mtx or .npz; a folder or a .zip of them; or - for "
            "standard input. Without it, the paper's setting runs.",
            argument="RATINGS",
        ),
    ] = None
    preset: Annotated[
        Literal["best", "fast"],
        Option("Defaults of the other options; fast: depth 2 with L-BFGS, in a fraction of the time."),
    ] = "best"
    depth: Annotated[
        str, Option("Number of factors, or several such as 2,3; auto: chosen by the validation entries.")
    ] = "auto"
    clip: Annotated[bool, Option("Clip predictions to the range of RATINGS.")] = True
    data: DataOptions = DataOptions()
    completion: CompletionOptions = _RATINGS
    output: OutputOptions = OutputOptions()
    given: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls: type[Job], values: Mapping[str, Any]) -> Job:
        """Return the defaults of the job with these values; raise a `ValueError` if they conflict."""
        job = cls._defaults(values).changed(values)
        if job.data.validation is not None and "validation_fraction" not in values:
            job = job.changed({"validation_fraction": 0.0})
        if job.output.out is None:
            if "checkpoint_every" in values:
                raise ValueError("--checkpoint-every needs --out: name a folder for the checkpoints")
            job = job.changed({"checkpoint_every": None})
        job = replace(job, given=values)
        job.check()
        return job

    @classmethod
    def _defaults(cls: type[Job], values: Mapping[str, Any]) -> Job:
        given = {name: values[name] for name in ("ratings",) if name in values}
        if values.get("preset") == "fast":
            fast = _RATINGS.changed({"optimizer": FAST.optimizer, "hidden": FAST.hidden})
            return cls(preset="fast", depth=str(FAST.depth), completion=fast, **given)
        return cls(**given)

    @property
    def depths(self) -> tuple[int | Literal["auto"], ...]:
        """The depths to train: one model for each."""
        if self.depth == "auto":
            return ("auto",)
        try:
            depths = tuple(int(depth) for depth in self.depth.split(","))
        except ValueError:
            depths = ()
        if not depths or min(depths) < 1 or max(depths) > _MOST_DEPTH or len(set(depths)) != len(depths):
            raise ValueError(
                f"--depth must be auto, an integer from 1 to {_MOST_DEPTH}, or distinct ones "
                f"such as 2,3, got {self.depth!r}"
            )
        return depths

    def completion_of(self, depth: int | Literal["auto"]) -> CompletionOptions:
        """Return the options for training one depth."""
        fit = replace(
            self.completion.fit,
            progress=False if self.output.quiet else None,
            checkpoint_every=self.completion.fit.checkpoint_every or None,
        )
        return replace(self.completion, depth=depth, fit=fit)

    def fingerprint(self) -> dict[str, Any]:
        """Return the options that determine the results, ready for JSON: a resumed run must have the same."""
        # All other options may change when a run is resumed.
        free = {"cache", "checkpoint_every"} | self.output.values().keys() - {"threads"}
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in self.values().items()
            if key not in free
        }

    def check(self) -> None:
        """Raise a `ValueError` if options contradict one another."""
        for depth in self.depths:
            self.completion_of(depth).check_depth()
        if self.ratings is None and not self.output.show_config:
            if self.preset != "best":
                raise ValueError(
                    f"--preset {self.preset} needs RATINGS: the paper's setting has its own options"
                )
            self.data.check_without_ratings()
        self.data.check(self.completion.validation_fraction)
        self.output.check()
        if self.output.resume and self.completion.fit.checkpoint_every == 0:
            raise ValueError("--resume needs checkpoints: set --checkpoint-every above 0")


@dataclass(frozen=True, kw_only=True)
class CompleteOptions(JobOptions):
    """Complete a matrix of ratings: train one model per depth and report how well it does.

    Without RATINGS, the paper's own setting runs: rank 5, 100 x 100, 2,000 entries, depths 2 and 3.
    """

    @classmethod
    def _defaults(cls, values: Mapping[str, Any]) -> CompleteOptions:
        of_ratings = "ratings" in values or values.get("show_config")  # a template for ratings
        return super()._defaults(values) if of_ratings else PAPER_JOB


PAPER_JOB = CompleteOptions(
    depth="2,3",
    clip=False,
    completion=PAPER.changed({"checkpoint_every": 1000}),  # of thousands, each below a millisecond
    output=OutputOptions(threads=1),  # at this size, twice as fast as two
)
"""What ``dmf-fast complete`` does without RATINGS."""


@dataclass(frozen=True, kw_only=True)
class TuneOptions(JobOptions):
    """Search for the settings with the best validation RMSE, and train with them as complete does.

    The search covers --weight-decay, --bias-weight-decay, --degree-exponent and --hidden, unless they are
    given, and --depth if several are given: --depth 2,3. The first trial uses the defaults of complete, so
    that the best trial is never worse on the validation ratings that trials share, those of the first fold.
    config.yaml in --out holds the best settings. --parallel runs several trials at once, and machines with
    the same --journal share the search.
    """

    ratings: Annotated[Path, Option("File of ratings, as for dmf-fast complete.", argument="RATINGS")]
    tuning: TuningOptions = TuningOptions()  # noqa: RUF009 (frozen)


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(EntryOptions):
    """Distribute the rows of ratings of any size over blocks, for training with many processes.

    All blocks but possibly one have the same number of rows, and nearly the same number of ratings. What
    exceeds --memory goes to the disk of --out: temporarily up to twice the size of the ratings.
    """

    ratings: Annotated[Path, Option("File of ratings, as for dmf-fast complete.", argument="RATINGS")]
    out: Annotated[Path | None, Option("Folder to write, such as ratings.blocks.")] = None
    blocks: Annotated[int, Option("Number of blocks, at most one per row.", least=1)] = 64
    memory: Annotated[int, Option("Target in megabytes; 100 million ratings need 2000.", least=400)] = 2000
    threads: Annotated[int | None, Option("Threads to use.", least=1, none="one per processor")] = None
    overwrite: Annotated[bool, Option("Replace the folder --out if it exists.")] = False


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Options):
    """Reproduce the experiments of the papers and write a page with a verdict on every claim.

    The page is report.html in the folder --out; results.json holds the same for machines. A claim that is
    not reproduced is a result, not an error.
    """

    target: Annotated[
        str, Option("An experiment, such as entries or movielens; or all.", argument="TARGET")
    ] = "all"
    quick: Annotated[bool, Option("Fewer seeds and steps: a first look within minutes.")] = False
    paper_size: Annotated[
        bool,
        Option(
            "Matrix sensing at the paper's size, 100 × 100 instead of 50 × 50: hours instead of minutes, and "
            "3 GB of memory."
        ),
    ] = False
    out: Annotated[
        Path | None,
        Option(
            "Folder of the page; a repeated command skips finished runs.",
            none="runs/paper; with --quick runs/paper-quick, with --paper-size runs/paper-size",
        ),
    ] = None
    movielens: Annotated[
        Path | None,
        Option(
            "Folder of MovieLens 100K, with u.data, u1.base and u1.test.",
            none="ml-100k in the folder DMF_FAST_DATA",
        ),
    ] = None
    threads: Annotated[int | None, Option("Threads to use.", least=1, none="as torch chooses")] = None
    as_json: Annotated[bool, Option("Print one JSON object instead of a table.", key="json")] = False
    quiet: Annotated[bool, Option("Show no progress bar.")] = False


def check_relevance(top_k: int | None, relevant_from: float | None) -> None:
    """Raise a `ValueError` if relevance is set but no recommendations are measured."""
    if top_k is None and relevant_from is not None:
        raise ValueError("--relevant-from needs --top-k: how many recommendations to measure")
