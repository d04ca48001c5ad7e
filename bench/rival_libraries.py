"""dmf_fast compared with cmfrec and LIBMF on the same ratings: test RMSE against seconds, for all settings.

    python -m bench.rival_libraries --sizes 1M 10M [--threads 2] [--out FILE]
    python -m bench.rival_libraries --plot FILE ... --picture docs/rivals.png   # measures nothing
    python -m bench.rival_libraries --table FILE ...                            # prints a Markdown table

The rivals are other people's packages, `pip install '.[rivals]'`; those that are not installed are skipped.
LIBMF's package is built without its AVX code: LIBMF_OBJ names a library built from its sources with `-O3
-mavx2 -mfma -DUSEAVX -DUSEOMP -fopenmp -pthread -fPIC -shared`. The ratings are those of `movielens_like`,
90% for training, of which 5% are held out for tuning. The rivals are tuned on these at every size, one
setting after the other; every setting tried is a point of the plot: its test error, and the seconds of its
fit. The best one is then fitted to all training ratings several times; the best of these fits counts.
dmf_fast runs its defaults and its fast preset; its seconds are those of the whole job, from arrays to the
model: search, validation and refit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.rating_problems import SIZES, RatingsProblem, ratings_problem
from bench.record import origin, results_file
from bench.rival_fits import LIBRARIES, Library, Predict, Settings
from dmf_fast import Observations
from dmf_fast.completion import FAST, CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.evaluation import Biases, HeldOut, RatingErrors


@dataclass(frozen=True)
class Trial:
    """One fit while tuning."""

    settings: Settings
    validation_rmse: float
    test_rmse: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a library reached, fitted to all training ratings.

    ``seconds`` are the least of ``all_seconds``, those of the fit that was disturbed least; ``cpu_seconds``,
    of all threads together, depend less on other load of the machine. ``iterations_a_second`` excludes the
    time before the first iteration. ``rate`` is passes × entries × factors per second.
    """

    library: str
    settings: Settings
    test_rmse: float
    seconds: float
    all_seconds: list[float]
    cpu_seconds: float
    iterations_a_second: float
    rate: float
    trials: list[Trial]


def measured(
    name: str, problem: RatingsProblem, threads: int, *, repeats: int = 3, tuned: int = 9
) -> Outcome:
    """Tune so many settings, then fit the library to all training ratings several times.

    Seconds and test RMSE are the best of these fits: LIBMF's threads race, so that no two models are equal.
    """
    library = LIBRARIES[name]
    trials = tuning(library, problem, threads, tuned) if tuned else []
    best = min(trials, key=lambda trial: trial.validation_rmse, default=None)
    settings = library.start if best is None else best.settings
    iterations = settings[library.iterations]
    twice_as_many = {**settings, library.iterations: 2 * iterations}
    ratings = problem.all_train

    once, twice, cpu, rmses = [], [], [], []
    for _ in range(repeats):
        started = time.process_time()
        predict, seconds = _timed(library, ratings, problem.shape, settings, threads)
        once.append(seconds)
        cpu.append(time.process_time() - started)
        rmses.append(_rmse(predict, problem.test))
        twice.append(_timed(library, ratings, problem.shape, twice_as_many, threads)[1])
    pace = iterations / max(min(twice) - min(once), 1e-9)
    rate = pace * library.passes * len(ratings) * settings[library.factors]
    return Outcome(name, settings, min(rmses), min(once), once, min(cpu), pace, rate, trials)


def tuning(library: Library, problem: RatingsProblem, threads: int, most: int = 9) -> list[Trial]:
    """Try the values of one setting after the other, keeping the best one on the validation ratings."""
    best = _trial(library, problem, library.start, threads)
    trials = [best]
    for name, values in library.tried[:most]:
        others = [value for value in values if value != best.settings[name]]
        found = [_trial(library, problem, {**best.settings, name: value}, threads) for value in others]
        trials += found
        best = min([best, *found], key=lambda trial: trial.validation_rmse)
    return trials


def _trial(library: Library, problem: RatingsProblem, settings: Settings, threads: int) -> Trial:
    predict, seconds = _timed(library, problem.train, problem.shape, settings, threads)
    trial = Trial(settings, _rmse(predict, problem.validation), _rmse(predict, problem.test), seconds)
    print(f"  {trial.validation_rmse:.4f} {trial.test_rmse:.4f} in {seconds:.2f} s: {settings}", flush=True)
    return trial


def _timed(
    library: Library, ratings: HeldOut, shape: tuple[int, int], settings: Settings, threads: int
) -> tuple[Predict, float]:
    start = time.perf_counter()
    predict = library.fit(ratings, shape, settings, threads)
    return predict, time.perf_counter() - start


def _rmse(predict: Predict, ratings: HeldOut) -> float:
    rmse = RatingErrors.of(predict(ratings.rows, ratings.columns), ratings.values).rmse
    assert rmse is not None
    return rmse


def completed(ratings: HeldOut, shape: tuple[int, int], options: CompletionOptions) -> CompletedMatrix:
    """Run the whole job of dmf_fast, from arrays to a model."""
    values = np.asarray(ratings.values, dtype=np.float32)
    return complete_matrix(Observations(ratings.rows, ratings.columns, values, shape), options)


def measured_dmf_fast(
    name: str, problem: RatingsProblem, options: CompletionOptions, threads: int, repeats: int
) -> Outcome:
    """Complete the training ratings several times; the rate is that of steps alone."""
    torch.set_num_threads(threads)
    options = replace(options, fit=replace(options.fit, progress=False))
    ratings = problem.all_train
    seconds, cpu, rates = [], [], []
    for _ in range(repeats):
        started, processor = time.perf_counter(), time.process_time()
        result = completed(ratings, problem.shape, options)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - processor)
        steps = result.refit_steps or result.steps
        rates.append((result.steps + result.refit_steps) / result.seconds)
    assert options.hidden is not None
    predictions = result.model.predict(problem.test.rows, problem.test.columns).numpy()
    rmse = RatingErrors.of(predictions.astype(np.float64), problem.test.values).rmse
    assert rmse is not None
    rate = max(rates) * len(ratings) * options.hidden
    settings = {
        "hidden": options.hidden,
        "optimizer": options.optimizer,
        "weight_decay": options.weight_decay,
        "chosen": result.chosen.name,
        "steps": steps,
    }
    return Outcome(name, settings, rmse, min(seconds), seconds, min(cpu), max(rates), rate, [])


OWN_RUNS = {
    "dmf_fast, fast": FAST,
    "dmf_fast, fast, hidden 32": replace(FAST, hidden=32),
    "dmf_fast, fast, hidden 64": replace(FAST, hidden=64),
    "dmf_fast, defaults": CompletionOptions(),
}


def compared(
    size: str, threads: int, repeats: int, *, tuned: int, own: list[str], rivals: list[str]
) -> dict[str, Any]:
    """Run all libraries on the ratings of one size."""
    problem = ratings_problem(*SIZES[size])
    train = problem.all_train
    biases = Biases.fit(Observations(train.rows, train.columns, train.values, problem.shape))
    report = {
        "size": size,
        "shape": problem.shape,
        "train_entries": len(train),
        "threads": threads,
        "biases_test_rmse": _rmse(biases.predict, problem.test),
        "libraries": [],
    }
    print(f"{size}, {threads} threads; biases: test RMSE {report['biases_test_rmse']:.4f}")
    for name in own:
        outcome = measured_dmf_fast(name, problem, OWN_RUNS[name], threads, repeats)
        report["libraries"].append(asdict(outcome))
        _print(outcome)
    for name in rivals:
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed")
            continue
        print(name)
        outcome = measured(name, problem, threads, repeats=repeats, tuned=tuned)
        report["libraries"].append(asdict(outcome))
        _print(outcome)
    return report | {
        "load_average": os.getloadavg()
    }  # above the number of cores, seconds are not to be trusted


def table(reports: list[dict[str, Any]]) -> str:
    """Return what every library reached, as a Markdown table."""
    lines = ["| ratings, threads | library | test RMSE | seconds |", "| --- | --- | ---: | ---: |"]
    for one in reports:
        where = f"{one['size']}, {one['threads']}"
        lines.append(f"| {where} | biases | {one['biases_test_rmse']:.4f} | |")
        for library in one["libraries"]:
            seconds = f"{library['seconds']:.2f}"
            lines.append(f"| {where} | {library['library']} | {library['test_rmse']:.4f} | {seconds} |")
    return "\n".join(lines)


def plot(reports: list[dict[str, Any]], picture: Path) -> None:
    """Draw test error against seconds: a point for every setting, one panel a size and number of threads."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(reports), figsize=(4.6 * len(reports), 4), squeeze=False)
    colors: dict[str, str] = {}
    for panel, one in zip(panels[0], reports, strict=True):
        for library in one["libraries"]:
            points = [(library["seconds"], library["test_rmse"])]
            points += [(trial["seconds"], trial["test_rmse"]) for trial in library["trials"]]
            name = library["library"]
            size = 40 if name.startswith("dmf_fast") else 14
            color = colors.setdefault(name, f"C{len(colors)}")
            panel.scatter(*zip(*points, strict=True), s=size, color=color, label=name)
        best = min(library["test_rmse"] for library in one["libraries"])
        panel.set(xscale="log", xlabel="seconds", ylim=(best - 0.002, best + 0.02))
        low, high = panel.get_xlim()
        ticks = [number * 10.0**power for power in range(-2, 4) for number in (1, 2, 3, 5, 7)]
        ticks = [tick for tick in ticks if low <= tick <= high]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.set_xticks([], minor=True)
        panel.set_title(f"{one['size']} ratings, {one['threads']} threads")
        panel.legend(fontsize=7)
    panels[0][0].set_ylabel("test RMSE")
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["1M"])
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--own", nargs="+", choices=OWN_RUNS, default=list(OWN_RUNS))
    parser.add_argument("--rivals", nargs="*", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--tuned", type=int, default=9, help="settings that are tuned, the first ones")
    parser.add_argument("--repeats", type=int, default=3, help="of the fit that is timed")
    parser.add_argument("--out", type=Path, default=results_file("rival-libraries"))
    parser.add_argument("--plot", nargs="+", type=Path, help="draw such files, and measure nothing")
    parser.add_argument(
        "--table", nargs="+", type=Path, help="print the table of such files, and measure nothing"
    )
    parser.add_argument("--picture", type=Path, default=Path("docs/rivals.png"))
    arguments = parser.parse_args()
    shown = arguments.plot or arguments.table
    if shown:
        reports = [one for file in shown for one in json.loads(file.read_text())["problems"]]
        print(table(reports)) if arguments.table else plot(reports, arguments.picture)
        return
    report: dict[str, Any] = {**origin(), "libmf_built_for_speed": "LIBMF_OBJ" in os.environ, "problems": []}
    for size in arguments.sizes:
        for threads in arguments.threads:
            problem = compared(
                size,
                threads,
                arguments.repeats,
                tuned=arguments.tuned,
                own=arguments.own,
                rivals=arguments.rivals,
            )
            report["problems"].append(problem)
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")


def _print(outcome: Outcome) -> None:
    print(
        f"{outcome.library}: test RMSE {outcome.test_rmse:.4f} in {outcome.seconds:.2f} s "
        f"({outcome.cpu_seconds:.2f} s of CPU), "
        f"{outcome.iterations_a_second:.2f} iterations and {outcome.rate / 1e9:.2f}e9 entries × factors "
        f"a second: {outcome.settings}",
        flush=True,
    )


if __name__ == "__main__":
    main()
