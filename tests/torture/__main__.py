"""`python -m tests.torture`: kills, full disks, races, other processes and hostile inputs, for some minutes.

Everything is imported once, here, where no thread runs; every try is a child that is forked of this. A lane
for each core takes its attacks in turn. Prints a table and writes a report with minimal inputs.
"""

# ruff: noqa: E402 (the environment comes before the libraries that read it)
from __future__ import annotations

import argparse
import gc
import os
import pickle
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

# Threads of these libraries would not come along with a fork.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch

from bench.record import RESULTS, origin
from dmf_fast.cli.app import COMMANDS
from dmf_fast.experiments.reproduce import EXPERIMENTS
from tests.torture import full_disk, kills, processes, races
from tests.torture.children import Child
from tests.torture.findings import Findings, keep_examples, merged, print_table, write_report
from tests.torture.fuzzing import fuzz
from tests.torture.saves import Save, saves
from tests.torture.targets import TARGETS

_MODULES = (
    *(f"dmf_fast.cli.{name}" for name in COMMANDS), *EXPERIMENTS.values(), "dmf_fast.cli.plots", "optuna",
    "dmf_fast.experiments.page.report", "scipy.io", "scipy.sparse", "filelock", "msgspec",
    "rich.table", "yaml", "torch.optim", "torch._dynamo",
)  # fmt: skip
_PARTS = {"kills": 0.22, "full disk": 0.1, "races": 0.1, "processes": 0.02, "fuzz": 0.56}


@dataclass(frozen=True)
class Attack:
    """What is run for some seconds, in a scratch folder, and its part of the time compared with others."""

    name: str
    share: float
    run: Callable[[str, float, Path], Findings]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; the exit code is 1 where anything failed."""
    parser = argparse.ArgumentParser("python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--seed", default="", help="what inputs follow from; another one every time by default"
    )
    parser.add_argument("--only", default="", help="attacks with this in their name")
    parser.add_argument("--keep", action="store_true", help="keep minimal inputs that failed in the corpus")
    parser.add_argument("--report", type=Path, default=RESULTS / "torture.json")
    given = parser.parse_args(arguments)
    seed = given.seed or str(random.randrange(10**6))
    began = time.monotonic()
    _prepare()
    chosen = [attack for attack in _attacks() if given.only in attack.name]
    cores = os.cpu_count() or 1
    print(
        f"{len(chosen)} attacks on {cores} cores for {given.minutes:g} minutes; the seed is {seed}",
        flush=True,
    )
    findings = merged(_in_lanes(chosen, cores, seed, 60 * given.minutes))
    facts = origin() | {"seed": seed, "cores": cores, "seconds": round(time.monotonic() - began)}
    print_table(findings)
    write_report(findings, facts, given.report)
    if given.keep:
        keep_examples(findings, Path(__file__).with_name("corpus"))
    print(f"The report, with minimal inputs, is {given.report}")
    return int(any(one.failures for one in findings))


def _prepare() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for module in _MODULES:
        import_module(module)
    gc.freeze()  # children then share these pages


def _attacks() -> Iterator[Attack]:
    """Yield all attacks; the shares of each kind add up to its part."""
    every = saves()

    def of_kind(
        kind: str, names: dict[str, float], run: Callable[[str], Callable[..., Findings]]
    ) -> Iterator[Attack]:
        total = sum(names.values())
        for name, share in names.items():
            yield Attack(f"{kind} {name}", _PARTS[kind] * share / total, run(name))

    by_name: dict[str, Save] = {save.name: save for save in every}
    killed = {save.name: 2.0 if save.longest_chain > 2 else 1.0 for save in every}
    yield from of_kind("kills", killed, lambda name: partial(kills.kill, by_name[name]))
    filled = {save.name: 1.0 for save in every if save.name != "reproduce"}
    yield from of_kind("full disk", filled, lambda name: partial(full_disk.fill, by_name[name]))
    raced = {save.name: 1.0 for save in every if save.races}
    yield from of_kind("races", raced, lambda name: partial(races.race, by_name[name]))
    yield from of_kind(
        "processes", dict.fromkeys(processes.POOLS, 1.0), lambda name: partial(processes.compare, name)
    )
    fuzzed = {name: target.share for name, target in TARGETS.items()}
    yield from of_kind("fuzz", fuzzed, lambda name: partial(fuzz, TARGETS[name]))


def _in_lanes(attacks: Sequence[Attack], cores: int, seed: str, seconds: float) -> list[Findings]:
    """Run attacks in as many lanes as there are cores, the time of each shared out by what is left of it."""
    lanes: list[list[Attack]] = [[] for _ in range(cores)]
    for attack in sorted(attacks, key=lambda attack: -attack.share):
        min(lanes, key=lambda lane: sum(one.share for one in lane)).append(attack)
    with tempfile.TemporaryDirectory(prefix="torture-", dir=_memory_disk()) as scratch:
        folders = [Path(scratch, f"lane-{number}") for number in range(cores)]
        children = [
            Child(partial(_run_lane, lane, seed, seconds, folder))
            for lane, folder in zip(lanes, folders, strict=True)
        ]
        for child in children:
            ending = child.wait(float("inf"), every=0.2, most_memory=1 << 60)
            if ending.code:
                print(ending.output, file=sys.stderr)
        return [
            pickle.loads(path.read_bytes()) for folder in folders for path in sorted(folder.glob("*.pickle"))
        ]


def _run_lane(attacks: Sequence[Attack], seed: str, seconds: float, folder: Path) -> None:
    ends = time.monotonic() + seconds
    for number, attack in enumerate(attacks):
        left = sum(one.share for one in attacks[number:])
        share = max(1.0, ends - time.monotonic()) * attack.share / left
        scratch = folder / str(number)
        scratch.mkdir(parents=True)
        try:
            found = attack.run(seed, share, scratch)
        except Exception as error:  # the attack itself is at fault; the others go on
            found = Findings(attack.name)
            found.add(f"{attack.name} could not be tried: {str(error).strip().splitlines()[-1][:300]}")
        (folder / f"{number}.pickle").write_bytes(pickle.dumps(found))


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
