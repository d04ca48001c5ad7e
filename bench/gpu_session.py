"""Processes of a measurement on a GPU, each with a time limit, and the folders that they work in."""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from bench.gpu_process import run

ROOT = Path(__file__).resolve().parent.parent
LOADS = (
    "from dmf_fast import cuda; from dmf_fast.ops import operators; raise SystemExit(cuda.missing_reason())"
)
LOAD_SECONDS, BUILD_SECONDS = 120, 150  # the first time, torch comes from a cold disk
GRACE = 4  # seconds from an interrupt to the end of a process


@dataclass(frozen=True)
class Command:
    """A process; `library` says with which CUDA library, `copy` in which file its output is kept as well."""

    arguments: Sequence[str | Path]
    seconds: float = float("inf")
    library: str = "product"
    copy: str | None = None


@dataclass(frozen=True)
class Part:
    """Commands that run one after the other, or at once, at most so many seconds all together."""

    seconds: float
    commands: Callable[[Session], list[Command]]
    needs: str | None = None  # a program, for which there is no stand-in without a GPU
    together: bool = False  # begin at once


@dataclass
class Session:
    """What all parts share: the device, a folder for what they leave, and the libraries."""

    device: str
    work: Path
    text: TextIO
    libraries: Path
    variants: list[str] = field(default_factory=list)

    def run_part(self, part: Part) -> str:
        """Run the commands of a part; return passed, failed, stopped or why it is skipped."""
        if part.needs is not None and self.device == "cpu":
            return "skipped: needs a GPU"
        if part.needs is not None and shutil.which(part.needs) is None:
            return f"skipped: {part.needs} is not on the path"
        ends, commands = time.monotonic() + part.seconds, part.commands(self)

        def run(command: Command) -> str:
            left = ends - time.monotonic()
            return self.run(command, min(command.seconds, left)) if left > 0 else "stopped"

        with ThreadPoolExecutor() as pool:
            found = list(pool.map(run, commands) if part.together else map(run, commands))
        return max(found, key=["passed", "failed", "stopped"].index, default="skipped: nothing to do")

    def run(self, command: Command, seconds: float) -> str:
        """Run a command and show what it says; return passed, failed or stopped. No process outlives it."""
        copied: list[str] = []

        def said(line: str) -> None:
            self.say(line)
            copied.append(line + "\n")

        folder, environment = self.work / command.library, self._environment(command.library)
        status = run(
            command.arguments, seconds, said, grace=GRACE, cwd=folder, env=environment, start_new_session=True
        )
        if command.copy is not None:
            (self.work / command.copy).write_text("".join(copied))
        if status is None:
            self.say(f"stopped after {seconds:.0f} seconds")
            return "stopped"
        return "passed" if status == 0 else "failed"

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """Say the exception of a block, and continue: one part must not cost the others."""
        try:
            yield
        except Exception:
            self.say(traceback.format_exc().rstrip())

    def say(self, line: str) -> None:
        """Write a line to the terminal and to the text file."""
        for place in (sys.stdout, self.text):
            print(line + "\n", end="", file=place, flush=True)  # whole, where commands run together

    def prepare(self) -> None:
        """Make the folders to work in; build the product where its library does not load."""
        self._package("product")
        if self.device == "cpu":
            self.variants = ["stand-in"]
        else:
            start = time.monotonic()
            loaded = self.run(Command([sys.executable, "-c", LOADS]), LOAD_SECONDS)
            self.say(f"==== loading {loaded} in {time.monotonic() - start:.1f} seconds")
            if loaded != "passed":
                prebuilt, self.libraries = self.libraries, self.work / "built"
                self.libraries.mkdir()
                (self.libraries / "site-packages").symlink_to(prebuilt / "site-packages")
                build = Command(["sh", ROOT / "bench" / "gpu_libraries.sh", self.libraries, "product"])
                self.say(f"==== build {self.run(build, BUILD_SECONDS)}")
                self._package("product")
            folders = (folder.parent.name for folder in self.libraries.glob("*/dmf_fast"))
            self.variants = sorted(set(folders) - {"product"})
        for variant in self.variants:
            self._package(variant)

    def _package(self, library: str) -> None:
        """Make a folder with the package and what is beside it, with the libraries of a variant."""
        folder = self.work / library
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "dmf_fast").mkdir(parents=True)
        for beside in ("bench", "csrc", "tests", "pyproject.toml"):
            (folder / beside).symlink_to(ROOT / beside)
        on_cpu = self.device == "cpu"
        places = [ROOT] if on_cpu else [self.libraries / "product", self.libraries / library]
        for facts in places[0].glob("*.egg-info"):
            (folder / facts.name).symlink_to(facts)
        files = {file.name: file for file in (ROOT / "dmf_fast").iterdir() if file.suffix != ".so"}
        files |= {file.name: file for place in places for file in (place / "dmf_fast").glob("*.so")}
        for name, file in files.items():
            (folder / "dmf_fast" / name).symlink_to(file)

    def _environment(self, library: str) -> dict[str, str]:
        paths, environment = [self.work / library], {"PYTHONUNBUFFERED": "1"}
        if self.device == "cpu":
            environment["OMP_NUM_THREADS"] = "1"
        else:
            paths.append(self.libraries / "site-packages")
        environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])
        return os.environ | environment
