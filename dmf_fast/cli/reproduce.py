"""``dmf-fast reproduce``: the experiments of the papers, anew, with a verdict on every claim."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from dmf_fast.experiments.reproduction import Reproduction

if TYPE_CHECKING:
    from dmf_fast.experiments.page import Section

_ALL = "all"
_MOVIELENS_FILES = ("u.data", "u1.base", "u1.test")
_VERDICT_STYLES = {"reproduced": "green", "not reproduced": "red", "not tested": "yellow"}


@dataclass(frozen=True)
class ReproduceSettings:
    """The options of ``reproduce``."""

    target: Annotated[str, Argument(help="An experiment, such as figure1 or movielens; or all.")] = _ALL
    quick: Annotated[bool, Option("--quick", help="Fewer seeds and steps: a first look in minutes.")] = False
    out: Annotated[
        Path | None,
        Option(
            help="Folder of the page; started again, no finished run is repeated. "
            "[default: runs/paper; with --quick runs/paper-quick]",
            show_default=False,
        ),
    ] = None
    movielens: Annotated[
        Path | None,
        Option(
            help=f"Folder of MovieLens 100K, with {', '.join(_MOVIELENS_FILES)}. "
            "[default: ml-100k in the folder DMF_FAST_DATA]",
            show_default=False,
        ),
    ] = None
    threads: Annotated[
        int | None, Option(help="Threads to use. [default: torch's]", show_default=False, min=1)
    ] = None
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of a table.")] = False
    quiet: Annotated[bool, Option("--quiet", help="No progress bar.")] = False

    @property
    def names(self) -> list[str]:
        """The experiments to run; a target that does not exist raises a `ValueError`."""
        from dmf_fast.experiments import reproduce as experiments  # slow to import

        choices = list(experiments.EXPERIMENTS)
        if self.target == _ALL:
            return choices
        if self.target not in choices:
            raise ValueError(
                f"TARGET must be one of {', '.join(choices)} or {_ALL}, but {self.target!r} came."
            )
        return [self.target]

    @property
    def folder(self) -> Path:
        """Where the page goes; a file in its place raises a `ValueError`."""
        folder = self.out or Path("runs", "paper-quick" if self.quick else "paper")
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out {folder} is a file; name a folder.")
        return folder

    @property
    def movielens_folder(self) -> Path | None:
        """Where MovieLens 100K is, None where it is not; a given folder without it raises a `ValueError`."""
        if self.movielens is not None:
            missing = _missing(self.movielens)
            if missing:
                raise ValueError(
                    f"--movielens must be the folder of MovieLens 100K, but {self.movielens} has no "
                    f"{' and no '.join(missing)}; name the folder ml-100k that its archive holds."
                )
            return self.movielens
        if "DMF_FAST_DATA" not in os.environ:
            return None
        folder = Path(os.environ["DMF_FAST_DATA"], "ml-100k")
        return folder if not _missing(folder) else None


def reproduce(settings: ReproduceSettings) -> None:
    """Reproduce the experiments of the papers and write a page with a verdict on every claim.

    The page is report.html in the folder --out, and beside it results.json has the same for machines. A claim
    that is not reproduced is a result, not an error.
    """
    from dmf_fast.experiments import reproduce as experiments

    names, out = settings.names, settings.folder
    reproduction = Reproduction(
        folder=out / "runs",
        quick=settings.quick,
        movielens=settings.movielens_folder,
        progress=False if settings.quiet else None,
    )
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        sections = experiments.reproduce(names, reproduction, out)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted: {out} keeps what has ended; the same command again goes on.", err=True)
        raise typer.Exit(130) from None
    if settings.as_json:
        typer.echo((out / "results.json").read_text(encoding="utf-8"), nl=False)
    else:
        _print_verdicts(out, [section for section, _ in sections.values()])


def _missing(folder: Path) -> list[str]:
    return [name for name in _MOVIELENS_FILES if not (folder / name).is_file()]


def _print_verdicts(out: Path, sections: Iterable[Section]) -> None:
    table = Table("section", "claim", "verdict")
    for section in sections:
        for place, claim in enumerate(section.claims):
            title = Text(section.title if place == 0 else "")
            table.add_row(title, Text(claim.statement), Text(claim.verdict, _VERDICT_STYLES[claim.verdict]))
        table.add_section()
    console = Console()
    console.print(table)
    console.print(f"The page is {out / 'report.html'}", highlight=False, soft_wrap=True)
