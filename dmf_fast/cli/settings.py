"""The options of ``dmf-fast complete``, put together, and what they mean for a job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from typer import Argument

from dmf_fast.cli.data_settings import DATA_CHOICES, DataSettings
from dmf_fast.cli.defaults import PAPER_DEFAULTS, RATINGS_DEFAULTS
from dmf_fast.cli.model_settings import ModelSettings
from dmf_fast.cli.output_settings import OutputSettings
from dmf_fast.completion import CHOICES, CompletionOptions

_CHOICES = CHOICES | DATA_CHOICES
# These may differ between a run and the one that goes on with it: they do not touch the numbers.
_FREE = {"cache", "checkpoint_every"} | {field.name for field in fields(OutputSettings)} - {"threads"}

Settings = TypeVar("Settings", bound="JobSettings")


@dataclass(frozen=True, kw_only=True)
class JobSettings(OutputSettings, DataSettings, ModelSettings):
    """The options of a job that trains on ratings; None means the default of the job, see `resolved`."""

    ratings: Path | None = None

    def resolved(self: Settings) -> Settings:
        """Return the settings with the job's default for every None, checked.

        A choice that does not exist, a number out of range or options that contradict one another raise a
        `ValueError`.
        """
        if self.checkpoint_every is not None and self.out is None:
            raise ValueError("--checkpoint-every needs --out: say where to keep the checkpoints.")
        defaults = PAPER_DEFAULTS if self.ratings is None else RATINGS_DEFAULTS
        if self.validation is not None:
            defaults = defaults | {"validation_fraction": 0.0}
        if self.out is None:
            defaults = defaults | {"checkpoint_every": None}
        resolved = replace(self, **{k: v for k, v in defaults.items() if getattr(self, k) is None})
        resolved.check()
        return resolved

    def options(self, depth: int, *, checkpointed: bool = False) -> CompletionOptions:
        """Return what these settings mean for the training of one depth; they must be resolved."""
        return CompletionOptions(
            run=self.run_settings(depth),
            fit=self.fit_options(checkpointed=checkpointed, quiet=self.quiet),
            validation_fraction=self.validation_fraction or 0.0,
            refit=bool(self.refit),
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the numbers of a run, ready for JSON: a resumed run must agree with it."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
            if name not in _FREE
        }

    def check(self) -> None:
        """Raise a `ValueError` where settings that are resolved contradict one another."""
        self.check_model()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"--{name} must be one of {', '.join(choices)}, but {getattr(self, name)!r} came."
                )
        if self.ratings is None:
            self._check_without_ratings()
        if self.validation is not None and self.validation_fraction:
            raise ValueError("--validation and --validation-fraction exclude one another: give one of them.")
        if self.split == "time" and not self.validation_fraction:
            raise ValueError("--split time needs a --validation-fraction above 0, and no --validation.")
        if self.test is None and self.top_k is not None:
            raise ValueError("--top-k needs --test: the test ratings that recommendations are measured on.")
        if self.top_k is None and self.relevant_from is not None:
            raise ValueError("--relevant-from needs --top-k: how many recommendations to measure.")
        self.check_output()
        if self.resume and self.checkpoint_every == 0:
            raise ValueError("--resume needs checkpoints: leave --checkpoint-every above 0.")

    def _check_without_ratings(self) -> None:
        for name in ("test", "validation", "cache"):
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} needs RATINGS: the paper's setting draws its own entries.")
        if self.split == "time":
            raise ValueError("--split time needs RATINGS with times: the paper's setting has none.")


@dataclass(frozen=True, kw_only=True)
class CompleteSettings(JobSettings):
    """The options of ``complete``."""

    ratings: Annotated[
        Path | None,
        Argument(
            help="File of (row, column, value): text, Parquet, .mtx or .npz; or a folder of them. Without it "
            "the paper's setting runs."
        ),
    ] = None
