"""Every native entry checks all that it is given: a hostile call ends in an exception, never in a crash.

An entry has one call that is right. Each of its arguments in turn is replaced by what is wrong for its kind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import _native, observations
from dmf_fast.ops import operators  # noqa: F401 (registers torch.ops.dmf_fast)

ROWS, COLUMNS = np.array([0, 2, 2, 1]), np.array([3, 0, 4, 3])
SHAPE = (3, 5)
NNZ, H = len(ROWS), 2
HUGE = (2**40, 2**62)
ERRORS = (ValueError, TypeError, IndexError, RuntimeError, MemoryError, NotImplementedError)

NOT_WHOLE = [None, 1.5, "3", 2**70]
SIZES = [-1, 2**63 - 1, *HUGE, *NOT_WHOLE]
THREADS = [0, -1, 10**9, *HUGE, *NOT_WHOLE]
NOT_FINITE = [float("nan"), float("inf"), None, "1"]


def layout() -> np.ndarray[Any, Any]:
    given = observations.Observations(ROWS, COLUMNS, np.ones(NNZ), shape=SHAPE)
    return given.layout().buffer.numpy().copy()


def spoilt_headers() -> list[np.ndarray[Any, Any]]:
    """Layouts that are cut, moved to an odd address, of other types, and with other sizes."""
    good = layout()
    moved = np.empty(len(good) + 1, np.uint8)
    moved[1:] = good
    cut, header = good[:-64].copy(), good.copy()
    header[16:24].view(np.int64)[0] = 2**40  # rows
    return [moved[1:], cut, header, good[:0], good[:8].copy(), good.reshape(1, -1), good.astype(np.float32)]


def spoilt_entries(*arrays: int) -> list[np.ndarray[Any, Any]]:
    """Layouts with an index outside in one of the last arrays: columns, rows, places, positions."""
    found = []
    for array in arrays:
        first = _native.describe_layout(layout())["position_offset"] + 64 * (array - 3)
        found.append(layout())
        found[-1][first : first + 4] = 255
    return found


def indices(right: np.ndarray[Any, Any], count: int) -> list[Any]:
    """Wrong length, number of dimensions and type, and indices out of range."""
    wrong = [right[:-1], right.reshape(2, 2), np.array(1), right.astype(np.float64), None, "x"]
    for index in (-1, count, np.iinfo(right.dtype).max, np.iinfo(right.dtype).min):
        outside = right.copy()
        outside[-1] = index
        wrong.append(outside)
    return wrong


def numbers(right: np.ndarray[Any, Any]) -> list[Any]:
    """Wrong length, number of dimensions and type."""
    longer = np.append(right, right.dtype.type(1))
    return [right[:-1], longer, right[None], np.array(1.0), right.astype(complex), "x"]


def program(**changed: Any) -> _native.DescentProgram:
    right = {"factors": 2, "matrices": [(3, H), (5, H)], "products": [], "a": 0, "b_transposed": 1}
    return _native.DescentProgram(**{**right, **changed})  # type: ignore[arg-type]


def chain(*products: tuple[int, int, int], a: int = 3) -> _native.DescentProgram:
    """Return a program of three factors, of which two have a product."""
    matrices = [(3, 2), (2, H), (5, H), (3, H)]
    return program(factors=3, matrices=matrices, products=list(products), a=a, b_transposed=2)


PROGRAMS = [
    *(program(factors=factors) for factors in (-1, 0, 1, 3, 2**31 - 1)),
    *(program(a=number) for number in (-1, 1, 2, 2**31 - 1)),
    *(program(b_transposed=number) for number in (-2, 0, 2, 2**31 - 1)),
    *(program(matrices=[(3, size), (5, size)]) for size in (0, -1, *HUGE)),
    *(program(matrices=[(size, H), (5, H)]) for size in (0, -1, 4, *HUGE)),
    program(matrices=[(3, H), (5, H + 1)]),
    program(matrices=[]),
    *(chain(product) for product in ((0, 1, 4), (0, 3, 3), (-1, 1, 3), (0, 0, 3), (1, 0, 3), (9, 1, 3))),
    chain((0, 1, 3), a=0),
    chain(),
]


def rule(**changed: Any) -> _native.Rule:
    return _native.Rule(**{"kind": _native.RuleKind.gradient_descent, "lr": 0.1, **changed})


OPTIONS = ("lr", "weight_decay", "bias_weight_decay", "momentum", "alpha", "beta1", "beta2", "eps",
           "gradient_clip", "decay_rate", "decay_after", "concavity", "knee")  # fmt: skip
RULES = [
    *(rule(**{option: number}) for option in OPTIONS for number in (float("nan"), float("inf"), -1.0)),
    *(rule(kind=_native.RuleKind(kind)) for kind in (-1, 5, 2**31 - 1)),
    None,
]


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
        _native.describe_layout, {"buffer": layout()}, {"buffer": spoilt_headers()})
    found["decode_layout"] = Entry(
        _native.decode_layout, {"buffer": layout(), "threads": 2},
        {"buffer": [*spoilt_headers(), *spoilt_entries(0, 1, 2, 3)], "threads": THREADS})
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
            {"layout": [*spoilt_headers(), *spoilt_entries(0, 1, 2)], "values": [*numbers(values), None],
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
        f"Descent{bits}.go_on_from": Entry(
            run.go_on_from, {"step": 0, "scalars": []},
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
# fmt: on


def tensors(right: torch.Tensor) -> list[Any]:
    """Wrong sizes, number of dimensions, type, strides and address."""
    memory = bytearray(right.numel() * right.element_size() + 1)
    odd = torch.frombuffer(memory, dtype=right.dtype, offset=1).view(right.shape)
    apart = torch.empty(*right.shape, 2, dtype=right.dtype)[..., 0]
    shapes = [right[:-1], torch.cat([right, right[:1]]), right[None], right[0], right[:0], right.sum()]
    types = [right.to(torch.complex64), right.bool(), right.double(), right.half(), right.to_sparse()]
    return [*shapes, *types, apart, odd, "x", 3]


def ints(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


# fmt: off
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
        spoilt = [torch.from_numpy(bad) for bad in (*spoilt_headers(), *spoilt_entries(*arrays[name]))]
        bad = {**wrong, "layout": [*spoilt, buffer[None], None]}
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
CLASSES = [
    value
    for value in vars(_native).values()
    if isinstance(value, type) and not (hasattr(value, "__members__") or issubclass(value, Exception))
]


def calls_with_arguments() -> Iterator[str]:
    """Yield the functions, constructors and methods of the module that take arguments."""
    for name, value in vars(_native).items():
        methods = vars(value).items() if isinstance(value, type) else []
        is_error = isinstance(value, type) and issubclass(value, Exception)
        if callable(value) and not is_error and not str(value.__doc__).startswith(f"{name}() ->"):
            yield name
        for method, function in methods:
            if callable(function) and not method.startswith("_") and "(self: " in function.__doc__:
                given = function.__doc__.split("(self: ", 1)[1].split(")")[0]
                if "," in given:
                    yield f"{name}.{method}"


def test_every_entry_is_tried() -> None:
    of_library = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("dmf_fast::")}
    on_gpu = {"build_layout", "tile_loss_gradients", "descend_blocks", "block_shared_memory"}
    operators_tried = {name.removeprefix("torch.ops.") for name in ENTRIES if name.startswith("torch.ops.")}
    assert {name.removeprefix("dmf_fast::") for name in of_library} == operators_tried | on_gpu
    assert set(calls_with_arguments()) == {name for name in ENTRIES if not name.startswith("torch.ops.")}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_hostile_argument_raises(name: str) -> None:
    entry = ENTRIES[name]
    entry.call(**entry.right)
    assert set(entry.wrong) <= set(entry.right)
    accepted = []
    for argument, values in entry.wrong.items():
        for place, value in enumerate(values):
            try:
                entry.call(**{**entry.right, argument: value})
            except ERRORS:
                continue
            accepted.append((argument, place, value))
    assert not accepted
    entry.call(**entry.right)


def test_spoilt_layouts_are_not_sound() -> None:
    assert _native.layout_is_sound(layout(), 1)
    for bad in (*spoilt_headers()[:-1], *spoilt_entries(0, 1, 2, 3)):
        assert not _native.layout_is_sound(bad, 1)


@pytest.mark.parametrize("made", CLASSES, ids=lambda made: made.__name__)
def test_an_object_whose_init_did_not_succeed_has_nothing_to_read(made: Any) -> None:
    unfinished = made.__new__(made)
    for name, member in vars(made).items():
        if isinstance(member, property):
            with pytest.raises(TypeError, match="__init__ has not succeeded"):
                getattr(unfinished, name)
        elif callable(member) and not name.startswith("_") and f"{made.__name__}.{name}" not in ENTRIES:
            with pytest.raises(TypeError, match="__init__ has not succeeded"):
                getattr(unfinished, name)()


def test_an_unfinished_object_is_no_argument() -> None:
    entry = ENTRIES["Descent32"]
    for argument, made in (("rule", _native.Rule), ("program", _native.DescentProgram)):
        with pytest.raises(TypeError):
            entry.call(**{**entry.right, argument: made.__new__(made)})

    class Forgiving(_native.LayoutBuilder32):
        def __init__(self) -> None:
            with pytest.raises(ValueError, match="threads must be"):
                super().__init__(ROWS.astype(np.int32), COLUMNS.astype(np.int32), 3, 5, 0)
            assert self.bytes

    with pytest.raises(TypeError, match="__init__ has not succeeded"):
        Forgiving()


def test_an_index_below_0_is_outside_of_however_many_columns() -> None:
    pattern = {**ENTRIES["LayoutBuilder32"].right, "column_count": 2**32}
    pattern["columns"] = np.full_like(pattern["columns"], -1)
    with pytest.raises(ValueError, match="must lie inside the matrix"):
        _native.LayoutBuilder32(**pattern)


def test_numbers_at_an_odd_address_are_read_right() -> None:
    memory = bytearray(1) + ROWS.astype(np.int32).tobytes()
    odd = np.frombuffer(memory, np.int32, offset=1)
    pattern = {**ENTRIES["LayoutBuilder32"].right, "rows": odd}
    builder = _native.LayoutBuilder32(**pattern)
    buffer = np.empty(builder.bytes, np.uint8)
    builder.write(buffer)
    assert _native.decode_layout(buffer, 1)[0].tolist() == ROWS.tolist()


def test_threads_share_one_builder_and_one_run() -> None:
    builder, run = (
        _native.LayoutBuilder32(**ENTRIES["LayoutBuilder32"].right),
        _native.Descent32(**ENTRIES["Descent32"].right),
    )
    buffers = [np.empty(builder.bytes, np.uint8) for _ in range(4)]
    factor = np.ones((3, H), np.float32)
    raised = []

    def work(buffer: np.ndarray[Any, Any]) -> None:
        try:
            for _ in range(20):
                builder.write(buffer)
                run.write(_native.Part.parameter, 0, factor)
                run.run(run.step + 3, -1.0, -1.0, 60.0)
                run.keep()
                run.read(_native.Part.kept, 1)
        except Exception as error:
            raised.append(error)

    workers = [threading.Thread(target=work, args=(buffer,)) for buffer in buffers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not raised
    assert all((buffer == layout()).all() for buffer in buffers)
