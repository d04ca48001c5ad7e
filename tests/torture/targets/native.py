"""Native entries called with hostile sizes, described in JSON: they raise, whatever they are given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmf_fast import Observations, _native
from dmf_fast.ops import operators  # noqa: F401 (loads torch.ops.dmf_fast)
from tests.torture.fuzzing import NotAnInput, Target
from tests.torture.mutation import Files

_INPUT = "input.call"
_MOST_NUMBERS = 50_000
_LAYOUT = {"file": "layout"}
_SIDES = {"a": {"shape": [5, 3], "dtype": "float32"}, "b_transposed": {"shape": [4, 3], "dtype": "float32"}}
_VALUES = {"shape": [9], "dtype": "float32"}
_INDICES = {"values": [0, 1, 2, 3, 4], "dtype": "int32"}
_LONG = _INDICES | {"dtype": "int64"}
_RULE = {"kind": 0, "lr": 0.01, "momentum": 0.9}
_PROGRAM = {"factors": 2, "matrices": [[5, 3], [4, 3]], "products": [], "a": 0, "b_transposed": 1}
_CHAIN = {
    "factors": 3, "matrices": [[5, 3], [3, 3], [4, 3], [5, 3]], "products": [[0, 1, 3]],
    "a": 3, "b_transposed": 2,
}  # fmt: skip


def call(folder: Path) -> object:
    """Make a described call, which may raise whatever it wants to."""
    try:
        described = json.loads((folder / _INPUT).read_bytes())
        function = _CALLS[described["call"]]
        arguments = {name: _value(value, folder) for name, value in described["arguments"].items()}
    except Exception as error:
        raise NotAnInput from error
    with suppress(Exception):
        function(arguments)
    return None


def targets() -> Iterator[Target]:
    """Yield a target for the module and one for the operators."""
    for name, calls in (("native module", _MODULE), ("native runs", _RUNS), ("operators", _OPERATORS)):
        yield Target(name, lambda _, calls=calls: _inputs(calls), call, (), names_file=False)  # type: ignore[misc]


def _value(described: Any, folder: Path) -> Any:
    """Return a number or text as it is, and the array or the file's bytes that a dictionary describes."""
    if isinstance(described, list):
        return [_value(one, folder) for one in described]
    if not isinstance(described, dict):
        return described
    if "file" in described:
        return np.frombuffer((folder / "layout").read_bytes(), np.uint8)
    if "shape" not in described and "values" not in described:
        return {name: _value(value, folder) for name, value in described.items()}
    dtype = np.dtype(described["dtype"])
    if "values" in described:
        return np.array(described["values"]).astype(dtype)
    shape = described["shape"]
    if np.prod([float(size) for size in shape]) > _MOST_NUMBERS:
        raise NotAnInput
    return np.linspace(-1, 1, int(np.prod(shape))).reshape(shape).astype(dtype)


def _inputs(calls: list[dict[str, Any]]) -> list[Files]:
    """Return calls with a layout of 9 entries of a 5 × 4 matrix."""
    places = np.arange(9) * 2
    layout = Observations(places // 4, places % 4, np.ones(9), (5, 4)).layout().buffer.numpy().tobytes()
    return [{_INPUT: json.dumps(one).encode(), "layout": layout} for one in calls]


def _tensor(value: Any) -> Any:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def _operator(name: str) -> Callable[[dict[str, Any]], None]:
    def function(arguments: dict[str, Any]) -> None:
        getattr(torch.ops.dmf_fast, name)(*[_tensor(value) for value in arguments.values()])

    return function


def _of_module(name: str) -> Callable[[dict[str, Any]], None]:
    def function(arguments: dict[str, Any]) -> None:
        getattr(_native, name)(*arguments.values())

    return function


def _build(arguments: dict[str, Any]) -> None:
    builder = getattr(_native, f"LayoutBuilder{arguments.pop('bits')}")(*arguments.values())
    if builder.bytes < 1 << 26:
        builder.write(np.zeros(builder.bytes, np.uint8))


def _descend(arguments: dict[str, Any]) -> None:
    bits = arguments.pop("bits")
    entries = getattr(_native, f"ObservedEntries{bits}")(
        arguments.pop("layout"), arguments.pop("values"), arguments.pop("weights")
    )
    program = _native.DescentProgram(*arguments.pop("program").values())
    rule = _rule(arguments.pop("rule"))
    until, part, parameter = arguments.pop("until"), arguments.pop("part"), arguments.pop("parameter")
    numbers, scalars = arguments.pop("numbers"), arguments.pop("scalars")
    descent = getattr(_native, f"Descent{bits}")(program, [entries], rule=rule, **arguments)
    descent.run(until, 0.0, 0.0, 0.01)
    descent.mean_squared_error([entries])
    for step in (
        descent.keep,
        lambda: descent.read(_native.Part(part), parameter),
        lambda: descent.write(_native.Part(part), parameter, numbers),
        lambda: descent.resume_from(until, scalars),
        lambda: descent.run(until + 3, 0.0, 0.0, 0.01),
    ):
        with suppress(Exception):  # the next one is tried as well
            step()


def _add_block_run(arguments: dict[str, Any]) -> None:
    bits = arguments.pop("bits")
    arguments["program"] = _native.DescentProgram(*arguments["program"].values())
    arguments["rule"] = _rule(arguments["rule"])
    part, factor = arguments.pop("part"), arguments.pop("factor")
    arguments["shape"] = tuple(arguments["shape"])
    run = getattr(_native, f"BlockRun{bits}")(**arguments)
    run.place(_native.Part(part), factor)
    run.memory(), run.state()


def _rule(described: dict[str, Any]) -> Any:
    return _native.Rule(_native.RuleKind(described.pop("kind")), **described)


def _described(name: str, **arguments: Any) -> dict[str, Any]:
    return {"call": name, "arguments": arguments}


_MODULE = [
    _described("build", bits="32", rows=_INDICES, columns=_INDICES, m=5, n=5, threads=1),
    _described("build", bits="64", rows=_LONG, columns=_LONG, m=5, n=6, threads=2),
    _described("has_repeated_pairs", rows=_INDICES, columns=_INDICES, m=5, n=5, threads=1),
    _described("describe_layout", buffer=_LAYOUT),
    _described("layout_is_sound", buffer=_LAYOUT, threads=1),
    _described("decode_layout", buffer=_LAYOUT, threads=1),
    _described("describe_device_layout", m=5, n=4, nnz=9),
]  # fmt: skip
_RUN = {
    "layout": _LAYOUT, "values": _VALUES, "weights": None, "rule": _RULE, "until": 3,
    "part": 0, "parameter": 0, "numbers": {"shape": [5, 3], "dtype": "float32"}, "scalars": [],
    "loss_scale": 0.1, "mean": 0.0, "biases": False, "scales": [], "curvatures": [], "threads": 1,
}  # fmt: skip
_RUNS = [
    *(_described("descend", **_RUN, program=program, bits="32") for program in (_PROGRAM, _CHAIN)),
    *(
        _described("descend", **_RUN | {"rule": {"kind": kind, "lr": 0.1}}, program=_PROGRAM, bits="32")
        for kind in (1, 2, 3, 4)
    ),
    _described("descend", **_RUN | {"values": _VALUES | {"dtype": "float64"}}, program=_PROGRAM, bits="64"),
    _described(
        "block", bits="32", shared_limit=49152, program=_PROGRAM, shape=[5, 4],
        values={"shape": [5], "dtype": "float32"}, rows=_LONG, columns=_LONG | {"values": [0, 1, 2, 3, 0]},
        weights=None, scale=0.1, total_weight=5.0, rule=_RULE, train_loss=0.0, gradient_norm=0.0,
        part=0, factor=0,
    ),
]  # fmt: skip
_DENSE = {"shape": [5, 4], "dtype": "float32"}
_WEIGHTED = {"layout": _LAYOUT, "values": _VALUES, "weights": _VALUES}
_OPERATORS = [
    _described("observed_product_forward", **_SIDES, layout=_LAYOUT, nnz=9),
    _described("observed_product_backward", coefficients=_VALUES, **_SIDES, layout=_LAYOUT),
    _described("completion_loss_forward", **_SIDES, layout=_LAYOUT, values=_VALUES, weights=None, scale=2.0),
    _described("completion_loss_gradients", **_SIDES, **_WEIGHTED, scale=0.5),
    _described("dense_loss_forward", dense=_DENSE, layout=_LAYOUT, values=_VALUES, weights=None, scale=2.0),
    _described("dense_loss_gradient", dense=_DENSE, **_WEIGHTED, scale=0.5),
    _described("caller_order", values=_VALUES, layout=_LAYOUT),
    _described("gather_observed", dense=_DENSE, layout=_LAYOUT, nnz=9),
    _described("scatter_observed", values=_VALUES, layout=_LAYOUT, rows=5, columns=4),
    _described(
        "top_columns", a=_SIDES["a"], b={"shape": [3, 4], "dtype": "float32"},
        column_bias={"shape": [4], "dtype": "float32"}, rows={"values": [0, 4, 2], "dtype": "int64"},
        seen_offsets={"values": [0, 1, 2, 2, 2, 4], "dtype": "int64"},
        seen_columns={"values": [0, 3, 1, 2], "dtype": "int32"}, k=2,
    ),
]  # fmt: skip
_CALLS: dict[str, Callable[[dict[str, Any]], None]] = {
    "build": _build,
    "descend": _descend,
    "block": _add_block_run,
    **{one["call"]: _of_module(one["call"]) for one in _MODULE if one["call"] != "build"},
    **{one["call"]: _operator(one["call"]) for one in _OPERATORS},
}
