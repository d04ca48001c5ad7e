"""The tables of the published results, in Markdown: one function for every kind of benchmark.

Tables that benchmarks print themselves are in their own modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from bench import depth, reproduction, rival_libraries, scaling_out
from bench.record import Published, latest

# The loops that a step of `fit` is compared with, by their names in the results.
PYTORCH_LOOPS = {
    "PyTorch loop without test loss": "PyTorch loop",
    "PyTorch loop": "PyTorch loop with test loss",
}
LOOPS = PYTORCH_LOOPS | {"completion_loss loop": "`completion_loss` loop"}
SCS = {f"cvxpy + SCS, eps {eps}": f"CVXPY with SCS, eps {eps}" for eps in ("0.001", "0.0001")}
PROCESSORS = {
    "granite-rapids": "a Granite Rapids server",
    "zen4": "a Zen 4 server",
    "epyc-avx2": "an EPYC server with AVX2",
}


def figures(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits.

    >>> figures(1234.5), figures(0.012345, 2), figures(99.96), figures(0)
    ('1,230', '0.012', '100', '0')
    """
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def faster(value: float, ours: float, unit: str = "") -> str:
    """Return what another way takes, with how many times as much that is.

    >>> faster(12.0, 4.0), faster(12.0, 4.0, "ms")
    ('12.0 (3×)', '12.0 ms (3×)')
    """
    return f"{figures(value)} {unit}".strip() + f" ({figures(value / ours, 2).removesuffix('.0')}×)"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table whose first columns are aligned to the left and whose others are to the right."""
    align = ["---"] * left + ["---:"] * (len(heads) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, align, *rows))


def machine(result: Published) -> str:
    """Return where a result was measured, in words."""
    return f"{result.cores} cores of {PROCESSORS[result.processor]}"


def sweep() -> str:
    rivals = ["sampled_addmm + CSR", "Numba CSR + CSC", "gather, torch.compile", "gather + autograd"]
    rivals.append("dense + autograd")

    def rows() -> Iterator[list[str]]:
        for case in latest("sweep").numbers["cases"]:
            times = case["milliseconds"]
            rates = [f"{case['gflops']:.0f}", f"{case['percent_of_fma_peak']:.0f}"]
            others = [faster(times[name], times["dmf_fast"]) if name in times else "–" for name in rivals]
            yield [case["problem"], *rates, f"**{figures(times['dmf_fast'])}**", *others]

    return markdown(
        ["problem", "GFLOP/s", "% of FMA peak", "dmf_fast, ms", *(f"{r}, ms" for r in rivals)], rows()
    )


def scaling() -> str:
    numbers = latest("scaling").numbers
    passes = [(f"{int(n):,} entries, h 64", s) for n, s in numbers["entries_h64"]["seconds"].items()]
    passes += [
        (f"1,000,000 entries, h {h}", s) for h, s in numbers["widths_1M"]["seconds"].items() if h != "64"
    ]
    return markdown(
        ["one pass: loss and both gradients, float32", "ms"], [(name, figures(1e3 * s)) for name, s in passes]
    )


def dtypes() -> str:
    numbers = latest("scaling").numbers
    kinds = {"1M_h64": "1M, h 64", "1M_h128": "1M, h 128", "10M_h64": "10M, h 64", "10M_h128": "10M, h 128"}
    names = ["float64", "bfloat16", "float16"]
    rows = [
        (shown, *(f"{numbers[f'rate_relative_to_float32_{kind}'][name]:.2f}" for name in names))
        for kind, shown in kinds.items()
    ]
    return markdown(["speed relative to float32", *names], rows)


def steps() -> str:
    cases = latest("steps").numbers["cases"]
    names = [name for name in LOOPS if name in cases[0]["microseconds"]]

    def rows() -> Iterator[list[str]]:
        for case in cases:
            times = case["microseconds"]
            loops = [faster(times[name], times["fit"]) for name in names]
            kind = [case["problem"], str(case["depth"]), case["optimizer"], str(case["threads"])]
            yield [*kind, f"**{figures(times['fit'])}**", *loops, f"{case['percent_of_fma_peak']:.0f}"]

    heads = ["problem", "depth", "optimizer", "threads", "`fit`, µs"]
    return markdown([*heads, *(f"{LOOPS[name]}, µs" for name in names), "% of FMA peak"], rows())


def convex() -> str:
    def rows() -> Iterator[list[str]]:
        numbers = latest("convex").numbers
        for case in numbers["beside_cvxpy"]:
            problem, ours = f"100 × 100, {case['observed']:,} observed", case["seconds"]["dmf_fast"]
            for name, shown in {"dmf_fast": "dmf_fast", **SCS}.items():
                seconds = faster(case["seconds"][name], ours) if name in SCS else f"**{figures(ours)}**"
                above = 100 * (case["nuclear_norm"][name] / case["certified"][0] - 1)
                yield [problem, shown, seconds, f"{above:.3f}", violation(case["largest_violation"][name])]
        for case in numbers["movielens"]:
            problem = f"MovieLens 100K, {case['problem']} (rank {case['rank']})"
            above = case["relative_gap"] / (1 - case["relative_gap"])
            largest = violation(case["largest_violation"]) if "largest_violation" in case else "–"
            yield [problem, "dmf_fast", f"**{figures(case['seconds'])}**", f"{100 * above:.3f}", largest]

    heads = ["problem", "solver", "seconds", "objective above its lower bound, %", "largest violation"]
    return markdown(heads, rows(), left=2)


def violation(largest: float) -> str:
    """Return how far the worst entry of a solution is outside its interval, 0 if it is inside.

    >>> violation(0.00779), violation(-1e-5)
    ('0.0078', '0')
    """
    return f"{max(0.0, largest):.2g}"


def depths() -> str:
    return depth.table(latest("depth").numbers["sets"], "depth")


def fast() -> str:
    return depth.table(latest("depth").numbers["sets"], "fast")


def rivals() -> str:
    kinds = ("rival-libraries", "rival-libraries-100m")
    return rival_libraries.table([one for kind in kinds for one in latest(kind).numbers["problems"]])


def jobs() -> str:
    rows = [
        (problem, name, f"{job['rmse']:.4f}", f"{sum(job['steps'])}", figures(job["seconds"]))
        for problem, one in latest("ratings").numbers["problems"].items()
        for name, job in one["job"].items()
    ]
    return markdown(["ratings", "job", "test RMSE", "steps", "seconds"], rows, left=2)


def reading() -> str:
    numbers = latest("reading").numbers["movielens_20M"]
    names = {"ratings.csv": "CSV", "ratings.parquet": "Parquet", "combined_data_1.txt": "Netflix text"}
    rows = []
    for file, name in names.items():
        one = numbers[file]
        times = (one["read_and_map_seconds"], one["observations_and_layout_seconds"], one["peak_gigabytes"])
        rows.append((f"{name}, {one['megabytes']:.0f} MB", *(figures(number, 2) for number in times)))
    again = numbers["store"]["second"]
    times = (again["open_seconds"], again["observations_and_layout_seconds"], again["peak_gigabytes"])
    rows.append(("the second time, from the cache", *(figures(number, 2) for number in times)))
    heads = [
        f"{numbers['entries'] / 1e6:.0f}M ratings",
        "read and mapped, s",
        "observations and layout, s",
        "peak, GB",
    ]
    return markdown(heads, rows)


def serving() -> str:
    numbers = latest("serving").numbers
    one, all_threads = (case["milliseconds"] for case in numbers["cases"])
    rows = [
        (
            name,
            faster(one[name], one["dmf_fast"]),
            faster(all_threads[name], all_threads["dmf_fast"]),
            figures(peak),
        )
        for name, peak in numbers["peak_megabytes"].items()
    ]
    threads = [case["threads"] for case in numbers["cases"]]
    return markdown(
        ["way", *(f"{count} thread{'s' * (count > 1)}, ms" for count in threads), "peak, MB"], rows
    )


def contention() -> str:
    rows = [
        (name, figures(case["quiet_seconds"]), figures(case["busy_seconds"]), figures(case["ratio"], 2))
        for name, case in latest("contention").numbers["cases"].items()
    ]
    return markdown(["work", "quiet, s", "busy, s", "ratio"], rows)


def processes() -> str:
    rows = [
        (
            f"{case['rows']:,} × {case['columns']:,}, {case['entries'] / 1e6:.0f}M",
            *(figures(1e3 * case["seconds"][name]) for name in ("whole", "together")),
            f"{case['percent']:.0f}",
        )
        for case in latest("scaling-out-efficiency").numbers["efficiency"]
    ]
    return markdown(
        ["entries", "one process of two threads, ms a step", "two processes, ms", "% of its speed"], rows
    )


def preparing() -> str:
    rows = [
        (
            f"{run['entries']:,}, {'CSV' if 'text' in run['case'] else 'Parquet'}", f"{run['blocks']}",
            figures(run["seconds"], 2), f"{run['peak_megabytes']:,.0f}", f"{run['largest_to_mean']:.4f}",
        )
        for run in latest("preparing").numbers["runs"]
    ]  # fmt: skip
    return markdown(["ratings", "blocks", "seconds", "peak, MB", "largest block / mean"], rows)


def papers() -> str:
    return reproduction.table(latest("reproduction").numbers)


def scaling_out_model() -> str:
    return scaling_out.table(latest("scaling-out").numbers)


def front() -> str:
    """Return the figures of the front page, a few of each kind."""
    return markdown(["", "dmf_fast", "compared with", "measured on"], _front_rows(), left=4)


def _front_rows() -> Iterator[list[str]]:
    def row(what: str, ours: float, unit: str, others: dict[str, float], result: Published) -> list[str]:
        compared = "; ".join(f"{name}: {faster(value, ours, unit)}" for name, value in others.items())
        return [what, f"**{figures(ours)} {unit}**", compared, machine(result)]

    result = latest("sweep")
    times = {case["problem"]: case["milliseconds"] for case in result.numbers["cases"]}["6040×3706, 1M, h 64"]
    others = {
        "`torch.sparse`": times["sampled_addmm + CSR"],
        "indexing, autograd": times["gather + autograd"],
    }
    yield row("loss and gradients, 1M entries, width 64", times["dmf_fast"], "ms", others, result)
    result = latest("steps")
    for case in result.numbers["cases"][:2]:
        times = case["microseconds"]
        what = f"training step, 100 × 100, depth {case['depth']}"
        others = {shown: times[name] for name, shown in PYTORCH_LOOPS.items() if name in times}
        yield row(what, times["fit"], "µs", others, result)
    result = latest("convex")
    case = result.numbers["beside_cvxpy"][0]
    times, off, ours = case["seconds"], case["largest_violation"], case["seconds"]["dmf_fast"]
    others = "; ".join(
        f"{shown}: {faster(times[name], ours, 's')}, violation {violation(off[name])}"
        for name, shown in SCS.items()
    )
    ours = f"**{figures(ours)} s**, violation {violation(off['dmf_fast'])}"
    yield ["nuclear-norm minimization, 100 × 100, every entry within 0.001", ours, others, machine(result)]
    result = latest("serving")
    times = result.numbers["cases"][-1]["milliseconds"]
    others = {"`A @ B`, `topk`": times["whole product + topk"], "implicit": times["implicit"]}
    yield row("10 best of 3,706 items for 6,040 users", times["dmf_fast"], "ms", others, result)
    for kind in ("rival-libraries", "rival-libraries-100m"):
        yield from _rating_rows(latest(kind))
    result = latest("reproduction")
    claims = [claim for one in result.numbers["experiments"].values() for claim in one["claims"]]
    reproduced = sum(claim["verdict"] == "reproduced" for claim in claims)
    what = f"the papers: {reproduced} of {len(claims)} statements reproduced"
    hours = result.numbers["loop_seconds"] / 3600 / result.numbers["cores"]
    others = f"PyTorch loops with test loss, {result.numbers['cores']} at once: about {hours:.0f} hours"
    yield [what, f"**{result.numbers['seconds'] / 60:.0f} minutes**", others, machine(result)]


def _rating_rows(result: Published) -> Iterator[list[str]]:
    names = {"cmfrec": "cmfrec", "libmf": "LIBMF"}
    for problem in result.numbers["problems"]:
        found = {
            one["library"]: f"RMSE {one['test_rmse']:.4f} in {figures(one['seconds'], 2)} s"
            for one in problem["libraries"]
        }
        others = "; ".join(f"{names[name]}: {found[name]}" for name in names if name in found)
        for preset in ("defaults", "fast"):
            if f"dmf_fast, {preset}" in found:
                ours = found[f"dmf_fast, {preset}"]
                yield [f"{problem['size']} ratings, {preset}", f"**{ours}**", others, machine(result)]


TABLES: dict[str, Callable[[], str]] = {
    "front": front, "sweep": sweep, "scaling": scaling, "dtypes": dtypes, "steps": steps, "convex": convex,
    "depth": depths, "fast": fast, "rivals": rivals, "jobs": jobs, "reading": reading, "serving": serving,
    "contention": contention, "processes": processes, "preparing": preparing, "reproduction": papers,
    "scaling-out": scaling_out_model,
}  # fmt: skip
