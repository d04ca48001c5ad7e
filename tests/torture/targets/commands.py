"""The command line on hostile files: results, or one sentence and the exit code 2; never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from dmf_fast.cli.options import CompleteOptions
from tests.torture import problems
from tests.torture.fuzzing import LONGEST_SENTENCE, BadEnding, NotAnInput, Target
from tests.torture.mutation import Files
from tests.torture.problems import command, ratings_text
from tests.torture.targets.folders import files_below
from tests.torture.targets.readers import source

_CONFIG = """\
# a comment
steps: 100
depth: [2, 3]
weight_decay: 1.0e-3
optimizer: adam
lr: 0.01
bias: true
hidden: null
columns: user,item,rating
"""
_TOML = (
    _CONFIG.replace(": ", " = ").replace("= null", "= 5").replace("user,item,rating", '"user,item,rating"')
)


def run(*arguments: object) -> None:
    """Run a command that must end in a result, or in a sentence and the exit code 2."""
    ended = command(*arguments)
    sentence = ended.stderr.rpartition("Error: ")[2]
    faults = {
        f"exit code {ended.code}": ended.code not in (0, 2),
        f"a traceback that ends in {ended.stderr.strip()[-200:]}": "Traceback" in ended.stderr,
        "no sentence": ended.code == 2 and not sentence.strip(),
        "a long sentence": ended.code == 2 and len(sentence) > LONGEST_SENTENCE + len(str(arguments)),
        # What is printed where no terminal is has the ids of the files as they are.
        "control characters": any(ord(c) < 32 and c not in "\n\t" for c in ended.stderr),
    }
    for fault, found in faults.items():
        if found:
            raise BadEnding(f"{arguments[0]}: {fault}")


def use_config(folder: Path) -> object:
    """Read a file of options."""
    run("complete", "--config", source(folder), "--show-config")
    return None


def use_arguments(folder: Path) -> object:
    """Read options that are given with ``--set`` and as flags, described in JSON."""
    try:
        described = json.loads((folder / "arguments.call").read_bytes())
        flags = [str(word) for word in described["flags"]]
        given = [word for text in described["set"] for word in ("--set", str(text))]
    except Exception as error:
        raise NotAnInput from error
    run("complete", *flags, *given, "--show-config")
    return None


def use_trained(folder: Path) -> object:
    """Say, predict and recommend from a trained folder."""
    model, pairs = folder / "model", folder / "pairs.csv"
    run("info", model)
    run("report", model)
    run("predict", model, pairs)
    run("recommend", model, "100", "--count", "3")
    run("evaluate", model, pairs, "--top-k", "2")
    return None


def use_ratings(folder: Path) -> object:
    """Train on a file, for two steps."""
    run("complete", source(folder), "--steps", "2", *problems.QUICK)
    return None


def targets() -> Iterator[Target]:
    """Yield a target for every kind of what commands are given."""
    yield Target("files of options", _configs, use_config, (), share=0.7)
    yield Target("options", _arguments, use_arguments, (), share=0.7)
    yield Target("commands on trained folders", _trained, use_trained, (), ours=True)
    yield Target("complete on files", _ratings, use_ratings, ())


def _configs(_: Path) -> list[Files]:
    values = CompleteOptions().values()
    every = yaml.safe_dump({name: value for name, value in values.items() if isinstance(value, (int, float))})
    anchored = "steps: &a 100\nwarmup: *a\n"
    return [{"a.yaml": text.encode()} for text in (_CONFIG, anchored, every)] + [{"a.toml": _toml(_TOML)}]


def _toml(text: str) -> bytes:
    return text.replace("= adam", '= "adam"').replace("[2, 3]", '"2,3"').encode()


def _arguments(_: Path) -> list[Files]:
    described = [
        {"flags": ["--depth", "2", "--lr", "0.1", "--optimizer", "adam"], "set": ["steps=100", "hidden=7"]},
        {
            "flags": ["a.csv", "--columns", "1,2,3", "--separator", ";"],
            "set": ["weight_decay=1e-3", "bias=no"],
        },
    ]
    return [{"arguments.call": json.dumps(one).encode()} for one in described]


def _trained(folder: Path) -> list[Files]:
    problems.train_by_command(folder, "model")
    files = {name: data for name, data in files_below(folder).items() if not name.endswith(".html")}
    return [files | {"pairs.csv": b"user,item,rating\n100,film 1,3\n999,film 2,4\n"}]


def _ratings(_: Path) -> list[Files]:
    return [{"a.csv": ratings_text(rows=6, columns=5).encode()}]
