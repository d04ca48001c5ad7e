"""The calls of every native entry: one that is right, and for each argument what is wrong for its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dmf_fast import _native, observations
from dmf_fast.ops import operators  # noqa: F401 (registers torch.ops.dmf_fast)
from tests.hostile_values import (
    COLUMNS,
    HUGE,
    NNZ,
    NOT_FINITE,
    NOT_WHOLE,
    PROGRAMS,
    ROWS,
    RULES,
    SHAPE,
    SIZES,
    THREADS,
    H,
    damaged_entries,
    damaged_headers,
    indices,
    ints,
    layout,
    numbers,
    program,
    rule,
    tensors,
)


@dataclass(frozen=True)
class Entry:
    """A call, its right arguments, and for each what is wrong."""

    call: Callable[..., Any]
    right: dict[str, Any]
    wrong: dict[str, list[Any]]


# fmt: off
def entries_of_layout() -> dict[str, Entry]:
    found = {}
    for bits in (32, 64):
        rows, columns = ROWS.astype(f"int{bits}"), COLUMNS.astype(f"int{bits}")
        right = {"rows": rows, "columns": columns, "row_count": 3, "column_count": 5, "threads": 2}
        wrong = {"rows": indices(rows, 3), "columns": indices(columns, 5), "row_count": [0, 2, *SIZES],
                 "column_count": [0, 4, *SIZES], "threads": THREADS}
        builder = getattr(_native, f"LayoutBuilder{bits}")
        found[f"LayoutBuilder{bits}"] = Entry(builder, right, wrong)
        if bits == 32:
            found["has_repeated_pairs"] = Entry(_native.has_repeated_pairs, right, wrong)
        built = builder(**right)
        size, read_only = built.bytes, np.empty(built.bytes, np.uint8)
        read_only.flags.writeable = False
        buffers = [np.empty(size + 1, np.uint8)[1:], np.empty(size * 2, np.uint8)[::2], read_only,
                   *(np.empty(other, np.uint8) for other in (0, size - 1, size + 1)),
                   np.empty(size, np.int8), np.empty((1, size), np.uint8), None]
        found[f"LayoutBuilder{bits}.write"] = Entry(
            built.write, {"buffer": np.empty(size, np.uint8)}, {"buffer": buffers})
    found["describe_layout"] = Entry(
        _native.describe_layout, {"buffer": layout()}, {"buffer": damaged_headers()})
    found["decode_layout"] = Entry(
        _native.decode_layout, {"buffer": layout(), "threads": 2},
        {"buffer": [*damaged_headers(), *damaged_entries(0, 1, 2, 3)], "threads": THREADS})
    found["layout_is_sound"] = Entry(
        _native.layout_is_sound, {"buffer": layout(), "threads": 2},
        {"threads": THREADS, "buffer": [None, "x"]})
    found["describe_device_layout"] = Entry(
        _native.describe_device_layout, {"rows": 3, "columns": 5, "nnz": 4},
        dict.fromkeys(("rows", "columns", "nnz"), SIZES))
    return found


def entries_of_options() -> dict[str, Entry]:
    numbers = [*HUGE, *NOT_WHOLE]
    found = {
        "set_instruction_set": Entry(
            _native.set_instruction_set, {"name": _native.active_instruction_set()},
            {"name": ["", "x" * 10**6, "a\0b", None, 3]}),
        "Rule": Entry(
            _native.Rule, {"kind": _native.RuleKind.adam, "lr": 0.1},
            {"kind": [None, 1, "adam"], "lr": [None, "1"]}),
        "DescentProgram": Entry(
            _native.DescentProgram,
            {"factors": 1, "matrices": [(3, 5)], "products": [], "a": 0, "b_transposed": -1},
            {"factors": numbers, "a": numbers, "b_transposed": numbers,
             "matrices": [None, [(1, 2, 3)], [(1,)], [(2**70, 1)], 3],
             "products": [None, [(1, 2)], [(0, 0, 2**40)]]}),
    }
    for kind in (_native.RuleKind, _native.Part, _native.Outcome):
        found[kind.__name__] = Entry(kind, {"value": 0}, {"value": numbers})
    return found


def entries_of_descent(bits: int) -> dict[str, Entry]:
    values = np.ones(NNZ, f"float{bits}")
    observed, make = getattr(_native, f"ObservedEntries{bits}"), getattr(_native, f"Descent{bits}")
    other = getattr(_native, f"ObservedEntries{96 - bits}")(layout(), np.ones(NNZ, f"float{96 - bits}"), None)
    train = observed(layout(), values, None)
    wider = observations.Observations([0], [0], [1.0], shape=(3, 6)).layout().buffer.numpy()
    empty = observations.Observations([], [], [], shape=SHAPE).layout().buffer.numpy()
    scales = [np.ones(3, f"float{bits}"), np.ones(5, f"float{bits}")]
    right = {"program": program(), "train": [train], "loss_scale": 1.0, "rule": rule(), "mean": 0.0,
             "biases": False, "scales": scales, "curvatures": [], "threads": 1,
             "ranks": lambda vectors: None}
    facts = [scales[:1], [None] * 3, 3, scales[::-1], [scales[0] * np.nan, None], [-scales[0], None]]
    run = make(**right)
    factor = np.ones((3, H), f"float{bits}")
    parts = [_native.Part(part) for part in (-1, 1, 2, 3, 4, 2**31 - 1)]
    parameters = [-1, 2, 2**31 - 1, *HUGE, *NOT_WHOLE]
    stops = [float("nan"), None, "1"]
    return {
        f"ObservedEntries{bits}": Entry(
            observed, {"layout": layout(), "values": values, "weights": values},
            {"layout": [*damaged_headers(), *damaged_entries(0, 1, 2)], "values": [*numbers(values), None],
             "weights": [*numbers(values), 0 * values, values * np.nan, values * np.inf]}),
        f"Descent{bits}": Entry(
            make, right,
            {"program": PROGRAMS,
             "train": [None, train, 3, [], [None], [other], [train, None], [train] * 2],
             "loss_scale": NOT_FINITE, "rule": RULES, "mean": NOT_FINITE, "biases": ["x"],
             "scales": [*facts, [0 * scales[0], None]], "curvatures": facts, "threads": THREADS,
             "ranks": [3, "x", lambda: None]}),
        f"Descent{bits}.run": Entry(
            run.run, {"until": 1, "train_loss": -1.0, "gradient_norm": -1.0, "most_seconds": 1.0},
            {"until": NOT_WHOLE, "train_loss": stops, "gradient_norm": stops, "most_seconds": stops}),
        f"Descent{bits}.read": Entry(
            run.read, {"part": _native.Part.parameter, "parameter": 0},
            {"part": parts, "parameter": parameters}),
        f"Descent{bits}.write": Entry(
            run.write, {"part": _native.Part.parameter, "parameter": 0, "numbers": factor},
            {"part": parts, "parameter": parameters,
             "numbers": [factor.T.copy(), factor.ravel(), factor[:2], None, "x"]}),
        f"Descent{bits}.mean_squared_error": Entry(
            run.mean_squared_error, {"entries": [train]},
            {"entries": [None, train, [], [None], [other], [train] * 2, [observed(wider, values[:1], None)],
                         [observed(empty, values[:0], None)]]}),
        f"Descent{bits}.resume_from": Entry(
            run.resume_from, {"step": 0, "scalars": []},
            {"step": [-1, *NOT_WHOLE], "scalars": [[1.0], [1.0] * 10**5, None]}),
    }


def entries_of_block_run(bits: int) -> dict[str, Entry]:
    make, values = getattr(_native, f"BlockRun{bits}"), np.ones(NNZ, f"float{bits}")
    right = {"program": program(), "shape": SHAPE, "rows": ROWS, "columns": COLUMNS, "values": values,
             "weights": values, "scale": 1.0, "total_weight": 4.0, "rule": rule(), "train_loss": -1.0,
             "gradient_norm": -1.0, "shared_limit": 227 * 1024}
    stops = [float("nan"), None]
    return {
        f"BlockRun{bits}": Entry(
            make, right,
            {"program": PROGRAMS, "shape": [(-1, 5), (2**62, 5), (4, 5), (3, 4), (3,), None],
             "rows": indices(ROWS, 3), "columns": indices(COLUMNS, 5), "values": [*numbers(values), None],
             "weights": numbers(values), "scale": NOT_FINITE, "total_weight": [0.0, -1.0, *NOT_FINITE],
             "rule": RULES, "train_loss": stops, "gradient_norm": stops, "shared_limit": SIZES}),
        f"BlockRun{bits}.place": Entry(
            make(**right).place, {"part": _native.Part.parameter, "factor": 0},
            {"factor": [-1, 2, 2**31 - 1, *NOT_WHOLE],
             "part": [_native.Part(part) for part in (-1, 3, 4, 2**31 - 1)]}),
    }


def entries_of_operators() -> dict[str, Entry]:
    buffer = torch.from_numpy(layout())
    a, b, values, dense = torch.ones(3, H), torch.ones(5, H), torch.ones(NNZ), torch.ones(*SHAPE)
    sides, targets = {"a": a, "b_transposed": b, "layout": buffer}, {"values": values, "weights": values}
    formed = {"dense": dense, "layout": buffer}
    right = {
        "observed_product_forward": {**sides, "nnz": NNZ},
        "observed_product_backward": {**sides, "coefficients": values},
        "completion_loss_forward": {**sides, **targets, "scale": 1.0},
        "completion_loss_gradients": {**sides, **targets, "scale": 1.0},
        "dense_loss_forward": {**formed, **targets, "scale": 1.0},
        "dense_loss_gradient": {**formed, **targets, "scale": 1.0},
        "gather_observed": {**formed, "nnz": NNZ},
        "scatter_observed": {"values": values, "layout": buffer, "rows": 3, "columns": 5},
        "caller_order": {"values": values, "layout": buffer},
    }
    wrong = {
        "a": [*tensors(a), torch.ones(3, H + 1), torch.ones(3, 0)], "b_transposed": tensors(b),
        "values": [*tensors(values), None], "weights": tensors(values), "coefficients": tensors(values),
        "dense": [*tensors(dense), torch.ones(3, 6), torch.ones(3, 0)],
        "scale": [None, "x"], "nnz": [-1, 0, NNZ + 1, *HUGE, None],
        "rows": [-1, 0, 4, *HUGE], "columns": [-1, 0, 6, *HUGE],
    }
    # Losses read no positions, and an order reads nothing else. What only moves numbers takes any type.
    arrays = {name: (0, 1, 2) if "loss" in name else (0, 1, 2, 3) for name in right} | {"caller_order": (3,)}
    found = {}
    for name, given in right.items():
        damaged = [torch.from_numpy(bad) for bad in (*damaged_headers(), *damaged_entries(*arrays[name]))]
        bad = {**wrong, "layout": [*damaged, buffer[None], None]}
        if name in ("gather_observed", "scatter_observed", "caller_order"):
            moved = (torch.float64, torch.float16)
            bad = {argument: [one for one in given if getattr(one, "dtype", None) not in moved]
                   for argument, given in bad.items()}
        found[name] = Entry(getattr(torch.ops.dmf_fast, name), given, {one: bad[one] for one in given})
    best = {"a": a, "b": torch.ones(H, 5), "column_bias": torch.ones(5), "rows": torch.tensor([0, 2]),
            "seen_offsets": torch.tensor([0, 2, 2, 4]), "seen_columns": ints(1, 4, 0, 3), "k": 2}
    found["top_columns"] = Entry(torch.ops.dmf_fast.top_columns, best, {
        "a": [*tensors(a), torch.ones(3, 0), torch.ones(1, H)], "b": tensors(best["b"]),
        "column_bias": tensors(best["column_bias"]), "k": [0, -1, 2**31, *HUGE, None],
        "rows": [*(torch.tensor([0, row]) for row in (-1, 3, *HUGE, -(2**63))), ints(0, 2),
                 best["rows"][None]],
        "seen_offsets": [*(torch.tensor(wrong) for wrong in (
            [3, 2, 2, 4], [0, 2, 2, 5], [0, 2, 2, 2**62], [0, 2, 2, -1], [-5, 2, 2, 4], [0, 2, 2])),
            ints(0, 2, 2, 4), None],
        "seen_columns": [*(ints(*wrong) for wrong in (
            [4, 1, 0, 3], [1, 1, 0, 3], [-1, 4, 0, 3], [1, 5, 0, 3], [1, 4, 0], [-(2**31), 2**31 - 1, 0, 3])),
            torch.tensor([1, 4, 0, 3]), None],
    })
    return found
# fmt: on


ENTRIES = {
    **entries_of_layout(),
    **entries_of_options(),
    **{name: entry for bits in (32, 64) for name, entry in entries_of_descent(bits).items()},
    **{name: entry for bits in (32, 64) for name, entry in entries_of_block_run(bits).items()},
    **{f"torch.ops.{name}": entry for name, entry in entries_of_operators().items()},
}
