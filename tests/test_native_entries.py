"""Every native entry checks all that it is given: a hostile call ends in an exception, never in a crash.

An entry has one call that is right. Each of its arguments in turn is replaced by what is wrong for its kind:
`tests/native_calls.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import _native
from dmf_fast.ops import operators  # noqa: F401 (registers torch.ops.dmf_fast)
from tests.hostile_values import COLUMNS, ROWS, H, damaged_entries, damaged_headers, layout
from tests.native_calls import ENTRIES

ERRORS = (ValueError, TypeError, IndexError, RuntimeError, MemoryError, NotImplementedError)
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


def test_damaged_layouts_are_not_sound() -> None:
    assert _native.layout_is_sound(layout(), 1)
    for bad in (*damaged_headers()[:-1], *damaged_entries(0, 1, 2, 3)):
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
