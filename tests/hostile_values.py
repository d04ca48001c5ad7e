"""A small matrix with its layout, a program and a rule, and what is wrong for each kind of argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dmf_fast import _native, observations

ROWS, COLUMNS = np.array([0, 2, 2, 1]), np.array([3, 0, 4, 3])
SHAPE = (3, 5)
NNZ, H = len(ROWS), 2
HUGE = (2**40, 2**62)

NOT_WHOLE = [None, 1.5, "3", 2**70]
SIZES = [-1, 2**63 - 1, *HUGE, *NOT_WHOLE]
THREADS = [0, -1, 10**9, *HUGE, *NOT_WHOLE]
NOT_FINITE = [float("nan"), float("inf"), None, "1"]


def layout() -> np.ndarray[Any, Any]:
    given = observations.Observations(ROWS, COLUMNS, np.ones(NNZ), shape=SHAPE)
    return given.layout().buffer.numpy().copy()


def damaged_headers() -> list[np.ndarray[Any, Any]]:
    """Layouts that are cut, moved to an odd address, of other types, and with other sizes."""
    good = layout()
    moved = np.empty(len(good) + 1, np.uint8)
    moved[1:] = good
    cut, header = good[:-64].copy(), good.copy()
    header[16:24].view(np.int64)[0] = 2**40  # rows
    return [moved[1:], cut, header, good[:0], good[:8].copy(), good.reshape(1, -1), good.astype(np.float32)]


def damaged_entries(*arrays: int) -> list[np.ndarray[Any, Any]]:
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
