"""``dmf-fast reproduce``: reruns the experiments of the papers, with a verdict on every claim."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from dmf_fast.checks import printable
from dmf_fast.cli.options import ReproduceOptions
from dmf_fast.cli.signals import exit_code
from dmf_fast.cli.streams import say, shown
from dmf_fast.cli.targets import check_utf8
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.extras import require
from dmf_fast.files.reading import read_record, reading

if TYPE_CHECKING:
    from dmf_fast.experiments.page.section import Section

_ALL = "all"
_MOVIELENS_FILES = ("u.data", "u1.base", "u1.test")
_VERDICT_STYLES = {"reproduced": "green", "not reproduced": "red", "not tested": "yellow"}


def reproduce(options: ReproduceOptions) -> None:
    """Run the experiments, write the page and print the verdicts."""
    require("`dmf-fast reproduce`", "matplotlib")
    from dmf_fast.experiments import reproduce as experiments

    if options.quick and options.paper_size:
        raise ValueError("--quick and --paper-size are mutually exclusive: give one of them")
    names, out = _names(options.target), _folder(options)
    reproduction = Reproduction(
        folder=out / "runs",
        quick=options.quick,
        movielens=_movielens_folder(options.movielens),
        progress=False if options.quiet else None,
        paper_size=options.paper_size,
    )
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        sections = experiments.reproduce(names, reproduction, out)
    except KeyboardInterrupt:
        say(f"Interrupted: {out} keeps the finished runs; the same command resumes.")
        raise click.exceptions.Exit(exit_code()) from None
    if options.as_json:
        click.echo((out / "results.json").read_text(encoding="utf-8"), nl=False)
    else:
        _print_verdicts(out, [section for section, _ in sections.values()])


def _names(target: str) -> list[str]:
    """Return the experiments to run; raise a `ValueError` for an unknown target."""
    from dmf_fast.experiments import reproduce as experiments

    choices = list(experiments.EXPERIMENTS)
    if target == _ALL:
        return choices
    if target not in choices:
        raise ValueError(f"TARGET must be one of {', '.join(choices)} or {_ALL}, got {target!r}")
    return [target]


def _folder(options: ReproduceOptions) -> Path:
    """Return the folder of the page; raise a `ValueError` if it is a file."""
    folder = options.out or _default_folder(options)
    check_utf8("--out", folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {printable(folder)} is a file; name a folder")
    page, results = (folder / name for name in ("report.html", "results.json"))
    if (page.exists() or results.exists()) and not _is_ours(results):
        raise FileExistsError(
            f"--out {printable(folder)} holds a report.html or results.json from another program, "
            "which is not replaced; name another folder"
        )
    return folder


def _default_folder(options: ReproduceOptions) -> Path:
    if options.quick:
        return Path("runs", "paper-quick")
    return Path("runs", "paper-size" if options.paper_size else "paper")


def _is_ours(results: Path) -> bool:
    try:
        with reading(results, "the results of experiments", "name another folder"):
            return "dmf_fast" in read_record(results, dict[str, Any])["facts"]
    except ValueError:
        return False


def _movielens_folder(given: Path | None) -> Path | None:
    """Return the folder of MovieLens 100K or None; raise a `ValueError` if a given folder lacks it."""
    if given is not None:
        missing = _missing(given)
        if missing:
            raise ValueError(
                f"--movielens must be the folder of MovieLens 100K, but {given} has no "
                f"{' and no '.join(missing)}; name the folder ml-100k that its archive holds"
            )
        return given
    if "DMF_FAST_DATA" not in os.environ:
        return None
    folder = Path(os.environ["DMF_FAST_DATA"], "ml-100k")
    return folder if not _missing(folder) else None


def _missing(folder: Path) -> list[str]:
    return [name for name in _MOVIELENS_FILES if not (folder / name).is_file()]


def _print_verdicts(out: Path, sections: Iterable[Section]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("section", "claim", "verdict")
    for section in sections:
        for place, claim in enumerate(section.claims):
            title = Text(section.title if place == 0 else "")
            table.add_row(title, Text(claim.statement), Text(claim.verdict, _VERDICT_STYLES[claim.verdict]))
        table.add_section()
    console = Console()
    console.print(table)
    click.echo(shown(f"The page is {out / 'report.html'}"))
