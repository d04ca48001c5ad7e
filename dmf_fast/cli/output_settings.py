"""Options about what a job leaves and shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dmf_fast.cli.option import option


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Where results go, and how a job goes on after an interruption."""

    out: Annotated[Path | None, option("Folder to write the model and the results to. [default: none]")] = (
        None
    )
    overwrite: Annotated[bool, option("Replace the folder --out.", "--overwrite")] = False
    resume: Annotated[bool, option("Go on with an interrupted run of the same --out.", "--resume")] = False
    tensorboard: Annotated[
        Path | None, option("Folder to log the training to for TensorBoard. [default: none]")
    ] = None
    threads: Annotated[
        int | None, option("Threads to use. [default: torch's; the paper's setting: 1]", min=1)
    ] = None
    show_config: Annotated[
        bool, option("Print all options as YAML for --config, and do nothing.", "--show-config")
    ] = False
    as_json: Annotated[bool, option("Print one JSON object instead of a table.", "--json")] = False
    quiet: Annotated[bool, option("No progress.", "--quiet")] = False

    def check_output(self) -> None:
        """Raise a `ValueError` where options contradict one another."""
        if self.out is None and (self.resume or self.overwrite):
            raise ValueError("--resume and --overwrite need --out: say which folder.")
        if self.resume and self.overwrite:
            raise ValueError("--resume goes on with a run and --overwrite begins anew: give one of them.")
