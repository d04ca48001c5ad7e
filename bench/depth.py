"""`python -m bench.depth`: does the depth that validation chooses predict as well as the best single depth?

Test RMSE of whole jobs: with the defaults at depth 2, 3, 4 and automatic depth, with the fast preset alone,
followed by deeper phases and with other decays, and of the biases alone. On MovieLens 100K and on synthetic
ratings: with even and with skewed numbers of ratings per row, dense and scarce, with several scales of
values. Medians over draws; test ratings choose nothing. Writes one JSON file; `--table FILE --of depth` (or
`fast`) prints a table of such a file, as in bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.problems import movielens_ratings
from bench.record import origin, results_file
from bench.synthetic_ratings import Population, movielens_like
from dmf_fast import Observations
from dmf_fast.completion import FAST, CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.evaluation import HeldOut, errors_of

Split = tuple[Observations, Observations]
_FAST = {"depth": FAST.depth, "optimizer": FAST.optimizer, "hidden": FAST.hidden}
MODELS: dict[str, dict[str, Any]] = {
    "depth 2": {"depth": 2},
    "depth 3": {"depth": 3},
    "depth 4": {"depth": 4},
    "auto": {},
    "auto, no decay": {"weight_decay": 0.0, "bias_weight_decay": 0.0},
    "fast": _FAST,
    "fast, then deeper": {"optimizer": FAST.optimizer},
    "fast, decay - 20 %": _FAST | {"weight_decay": 0.8 * FAST.weight_decay},
    "fast, decay + 20 %": _FAST | {"weight_decay": 1.2 * FAST.weight_decay},
}
# What a table shows, and the models that it gives the steps of.
DEPTHS = ["depth 2", "depth 3", "depth 4", "auto", "auto, no decay"]
SPEEDS = ["auto", "fast", "fast, then deeper", "fast, decay - 20 %", "fast, decay + 20 %"]
TABLES = {"depth": (DEPTHS, ["auto"]), "fast": (SPEEDS, ["auto", "fast"])}


def even(shape: tuple[int, int], share: float, seed: int, *, taste: float = 0.6, noise: float = 0.9) -> Split:
    """Return ratings whose places are drawn evenly: biases, 20 tastes with a spectrum of 1/k, and noise."""
    random = np.random.default_rng(seed)
    rows, columns = shape
    spectrum = 1 / np.arange(1, 21)
    spectrum *= taste / np.linalg.norm(spectrum)
    dense = (random.standard_normal((rows, 20)) * spectrum) @ random.standard_normal((20, columns))
    dense += 0.4 * (random.standard_normal((rows, 1)) + random.standard_normal((1, columns)))
    places = (random.random(shape) < share).nonzero()
    values = dense[places] + noise * random.standard_normal(len(places[0]))
    return _split(Observations(*places, values.astype(np.float32), shape), seed)


def skewed(shape: tuple[int, int], entries: int, seed: int, *, least: int = 20, scale: float = 1.0) -> Split:
    """Return ratings like those of MovieLens, with fewer of the least active rows or other values."""
    drawn = movielens_like(shape, entries, seed, Population(least_activity=least))
    rows, columns, values = drawn
    return _split(Observations(rows, columns, (scale * values).astype(np.float32), shape), seed)


def movielens(share: float, seed: int) -> Split | None:
    """Return a random share of MovieLens 100K, and the rest; None where it is not here."""
    ratings = movielens_ratings("u.data")
    return None if ratings is None else _split(ratings, seed, share)


def official(seed: int) -> Split | None:
    """Return the split u1; the seed is that of the job."""
    parts = [movielens_ratings(f"u1.{name}") for name in ("base", "test")]
    return None if None in parts else (parts[0], parts[1])  # type: ignore[return-value]


SETS: dict[str, Callable[[int], Split | None]] = {
    "MovieLens 100K, u1": official,
    **{
        f"MovieLens 100K, {share:.0%}": lambda seed, share=share: movielens(share, seed)  # type: ignore[misc]
        for share in (0.9, 0.5, 0.3, 0.2, 0.1, 0.05)
    },
    **{
        f"even, 5,000 x 100, {share:.0%}": lambda seed, share=share: even((5_000, 100), share, seed)  # type: ignore[misc]
        for share in (0.05, 0.3, 0.7)
    },
    **{
        f"even, 2,000 x 2,000, {share:.0%}": lambda seed, share=share: even((2_000, 2_000), share, seed)  # type: ignore[misc]
        for share in (0.05, 0.2)
    },
    "even, 2,000 x 2,000, 20%, little noise": lambda seed: even((2_000, 2_000), 0.2, seed, noise=0.3),
    "even, 5,000 x 100, 56%, -10 to 10": lambda seed: even((5_000, 100), 0.56, seed, taste=2.6, noise=3.8),
    "skewed, 1,400 x 1,400, 5,335, 20 to 100": lambda seed: skewed(
        (1_400, 1_400), 5_335, seed, least=1, scale=20
    ),
    "skewed, 3,000 x 3,000, 26,000": lambda seed: skewed((3_000, 3_000), 26_000, seed, least=1),
    "skewed, 3,000 x 3,000, 137,000": lambda seed: skewed((3_000, 3_000), 137_000, seed, least=1),
    "skewed, 6,040 x 3,706, 1M": lambda seed: skewed((6_040, 3_706), 1_000_000, seed),
    "skewed, 60,000 x 20,000, 1M": lambda seed: skewed((60_000, 20_000), 1_000_000, seed, least=3),
}


def _split(observed: Observations, seed: int, share: float = 0.9) -> Split:
    return observed.split(1 - share, seed)


def measured(split: Split, changes: dict[str, Any], seed: int) -> dict[str, Any]:
    """Complete the training part, and return the error on the other and what was chosen."""
    train, test = split
    options = CompletionOptions(seed=seed, **changes)
    options = replace(options, fit=replace(options.fit, progress=False))
    train.layout()
    start = time.perf_counter()
    completed = complete_matrix(train, options, test=test)
    found = {"test_rmse": completed.test_rmse, "chosen": completed.chosen.name}
    found["validation_rmse"] = {one.name: one.validation_rmse for one in completed.candidates}
    found |= {"steps": [completed.steps, completed.refit_steps], "seconds": time.perf_counter() - start}
    return found | {"biases": _of_biases(completed, test)}


def _of_biases(completed: CompletedMatrix, test: Observations) -> float | None:
    assert completed.biases is not None
    return errors_of(completed.biases, HeldOut.of(test)).rmse


def _runs(split_of: Callable[[int], Split | None], draws: int) -> Iterator[dict[str, Any]]:
    for seed in range(draws):
        split = split_of(seed)
        if split is None:
            return
        yield {name: measured(split, changes, seed) for name, changes in MODELS.items()}


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median test RMSE of the biases and of every model."""
    errors = {"biases": median(run["auto"]["biases"] for run in runs)}
    return errors | {name: median(run[name]["test_rmse"] for run in runs) for name in MODELS}


def table(sets: dict[str, Any], which: str) -> str:
    """Return the sets of a report as one of `TABLES` in Markdown; the best of a line is bold."""
    draws = len(next(iter(sets.values())))
    models, counted = TABLES[which]
    names = ["biases", *models]
    steps = "".join(f" steps of {model} |" for model in counted)
    lines = [f"| test RMSE, medians of {draws} draws | {' | '.join(names)} |{steps}"]
    lines.append("| --- |" + " ---: |" * (len(names) + len(counted)))
    for name, runs in sets.items():
        of_all = medians(runs)
        errors = [f"{of_all[what]:.4f}" for what in names]
        best = min(errors, key=float)
        cells = [f"**{error}**" if error == best else error for error in errors]
        cells += [f"{median(sum(run[model]['steps']) for run in runs):.0f}" for model in counted]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, help="print the table of such a file, and measure nothing")
    parser.add_argument("--of", choices=TABLES, default="depth")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--output", type=Path, default=results_file("depth"))
    arguments = parser.parse_args()
    if arguments.table is not None:
        report = json.loads(arguments.table.read_text())
        sets = {name: report["sets"][name] for name in arguments.sets if name in report["sets"]}
        print(table(sets, arguments.of))
        return
    torch.set_num_threads(arguments.threads)
    report: dict[str, Any] = {**origin(), "threads": arguments.threads, "sets": {}}
    for name in arguments.sets:
        runs = list(_runs(SETS[name], arguments.draws))
        if not runs:
            print(f"{name}: not here")
            continue
        report["sets"][name] = runs
        errors = medians(runs)
        chosen = ", ".join(run["auto"]["chosen"] for run in runs)
        print(f"{name}:", ", ".join(f"{what} {error:.4f}" for what, error in errors.items()), f"({chosen})")
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
