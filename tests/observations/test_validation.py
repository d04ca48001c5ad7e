"""Bad arguments of Observations end in one sentence that says what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import Observations

GOOD: dict[str, Any] = {"rows": [0, 1, 2], "columns": [2, 1, 0], "values": [1.0, 2.0, 3.0], "shape": (3, 3)}
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"rows": [0.0, 1.0, 2.0]}, TypeError, "`rows` must hold integers, got float64"),
        (
            {"columns": torch.tensor([0.0, 1.0, 2.0])},
            TypeError,
            "`columns` must hold integers, got torch.float32",
        ),
        ({"rows": torch.zeros(3, dtype=torch.bfloat16)}, TypeError, "`rows` must hold integers"),
        ({"rows": [True, False, True]}, TypeError, "`rows` must hold integers, got bool"),
        ({"rows": torch.tensor([True, False, True])}, TypeError, "`rows` must hold integers, got torch.bool"),
        ({"columns": ["a", "b", "c"]}, TypeError, "`columns` must hold integers"),
        ({"columns": [0, None, 1]}, TypeError, "`columns` must hold integers, got object"),
        ({"columns": [[0, 1], [2]]}, TypeError, "`columns` must be an array, a tensor or a list"),
        ({"rows": [[0, 1, 2]]}, ValueError, r"`rows` must be one-dimensional, got shape \(1, 3\)"),
        ({"rows": 1}, ValueError, r"`rows` must be one-dimensional, got shape \(\)"),
        (
            {"rows": np.zeros(0), "columns": [], "values": []},
            TypeError,
            "`rows` must hold integers, got float64",
        ),
        ({"values": np.zeros((3, 1))}, ValueError, r"`values` must be one-dimensional, got shape \(3, 1\)"),
        ({"values": None}, TypeError, "`values` must hold real numbers, got object"),
        (
            {"columns": [0, 1]},
            ValueError,
            "`columns` must hold one number for each of the 3 entries of `rows`, got 2",
        ),
        (
            {"values": [1.0] * 4},
            ValueError,
            "`values` must hold one number for each of the 3 entries of `rows`, got 4",
        ),
        (
            {"weights": [1.0]},
            ValueError,
            "`weights` must hold one number for each of the 3 entries of `rows`, got 1",
        ),
        ({"rows": [0, -1, -2]}, IndexError, r"`rows` must be from 0 to 2, got rows\[1\] = -1"),
        ({"rows": [0, -1, 2], "shape": None}, IndexError, r"`rows` must be from 0 to 2, got rows\[1\] = -1"),
        ({"columns": [0, 1, 3]}, IndexError, r"`columns` must be from 0 to 2, got columns\[2\] = 3"),
        (
            {"rows": np.array([0, 1, 2**64 - 1], dtype=np.uint64)},
            IndexError,
            r"rows\[2\] = 18446744073709551615",
        ),
        ({"shape": (0, 3)}, IndexError, "`rows` must not occur: the shape has no rows"),
        ({"values": [1.0, NAN, 3.0]}, ValueError, r"`values` must be finite, got values\[1\] = nan"),
        ({"values": [1.0, 2.0, -INFINITY]}, ValueError, r"`values` must be finite, got values\[2\] = -inf"),
        ({"weights": [NAN, 1.0, 1.0]}, ValueError, r"`weights` must be finite, got weights\[0\] = nan"),
        (
            {"weights": [1.0, -0.5, 1.0]},
            ValueError,
            r"`weights` must not be negative, got weights\[1\] = -0.5",
        ),
        (
            {"values": [1.0, 1e6, 3.0], "dtype": torch.float16},
            ValueError,
            r"values\[1\] = 1e\+06, which torch.f",
        ),
        (
            {"weights": np.full(3, 1e308), "dtype": torch.float64},
            ValueError,
            "sum of `weights` must be finite",
        ),
        ({"values": [True, False, True]}, TypeError, "`values` must hold real numbers, got bool"),
        ({"values": [1j, 2.0, 3.0]}, TypeError, "`values` must hold real numbers, got complex128"),
        ({"values": torch.zeros(3, dtype=torch.complex64)}, TypeError, "`values` must hold real numbers"),
        ({"weights": [False, True, True]}, TypeError, "`weights` must hold real numbers, got bool"),
        ({"values": torch.eye(3).to_sparse()}, TypeError, "use Observations.from_torch_sparse"),
        (
            {"values": np.ma.array([1.0, 2.0, 3.0])},
            TypeError,
            "`values` must not be masked, got a masked array",
        ),
        ({"dtype": torch.int32}, TypeError, "`dtype` must be one of torch.float64"),
        ({"dtype": "float32"}, TypeError, "`dtype` must be one of torch.float64"),
        (
            {"values": torch.zeros(3).to(torch.float8_e5m2)},
            TypeError,
            "`dtype` must be one of .* got torch.float8",
        ),
        ({"shape": (3, 0)}, IndexError, "`columns` must not occur"),
        ({"shape": (3, -1)}, ValueError, "the number of columns in `shape` must be from 0 to"),
        ({"shape": (2**63, 3)}, ValueError, "the number of rows in `shape` must be from 0 to"),
        ({"shape": (3, 3, 3)}, ValueError, "`shape` must be a pair of integers"),
        ({"shape": 3}, TypeError, "`shape` must be a pair of integers"),
        ({"shape": (3.0, 3.0)}, TypeError, "`shape` must be a pair of integers"),
        (
            {"rows": [], "columns": [], "values": [], "shape": None},
            ValueError,
            "`shape` must be .* if there are no entries",
        ),
        ({"device": "nowhere"}, ValueError, "`device` must be available to torch"),
    ],
)
def test_a_bad_argument_is_named(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Observations(**{**GOOD, **changed})
    assert "\n" not in str(caught.value)


def test_a_dtype_in_the_place_of_the_device_is_explained() -> None:
    with pytest.raises(TypeError, match="write dtype= before a dtype"):
        Observations([0], [0], [1.0]).to(torch.float64)  # type: ignore[arg-type]


def test_narrowing_refuses_what_the_dtype_cannot_hold() -> None:
    observations = Observations([1, 0], [0, 1], [1.0, 1e6])
    observations.layout()
    with pytest.raises(ValueError, match=r"values\[1\] = 1e\+06, which torch.float16 cannot hold"):
        observations.to(dtype=torch.float16)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"values": [1.0]}, ValueError),
        ({"values": [1.0, NAN, 1.0]}, ValueError),
        ({"values": "abc"}, TypeError),
    ],
)
def test_with_values_checks_as_the_constructor_does(changed: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="`values` must"):
        Observations(**GOOD).with_values(**changed)


def test_weights_may_all_be_zero() -> None:
    assert Observations(**GOOD, weights=[0, 0, 0]).total_weight == 0.0
