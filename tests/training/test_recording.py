"""When a run records, against the definition in sixty digits."""

from __future__ import annotations

from decimal import Decimal, getcontext
from itertools import pairwise
from typing import Any

import pytest

from dmf_fast.training import Recording


def recorded(recording: Recording, last: int) -> list[int]:
    """All recorded steps from the first to the one that reaches ``last``."""
    steps = [recording.next_step(-1)]
    while steps[-1] < last:
        steps.append(recording.next_step(steps[-1]))
    return steps


def logarithmic_steps(per_decade: int, decades: int) -> list[int]:
    """Every step by its definition, in sixty digits."""
    getcontext().prec = 60
    powers = [Decimal(10) ** (Decimal(k) / per_decade) for k in range(per_decade * decades + 1)]
    return sorted({0, *(int(power.to_integral_value()) for power in powers)})


@pytest.mark.parametrize("per_decade", [1, 2, 3, 7, 20, 64, 100])
def test_logarithmic_steps_are_the_rounded_powers_each_once(per_decade: int) -> None:
    assert recorded(Recording(per_decade=per_decade), 10**12) == logarithmic_steps(per_decade, 12)


def test_twenty_steps_a_decade_are_recorded_unless_said_otherwise() -> None:
    assert recorded(Recording(), 10**6) == logarithmic_steps(20, 6)


@pytest.mark.parametrize("per_decade", [1, 3, 20, 333, 1000])
def test_powers_of_ten_are_recorded_exactly(per_decade: int) -> None:
    recording = Recording(per_decade=per_decade)
    for exponent in range(19):
        assert recording.next_step(10**exponent - 1) == 10**exponent
        assert recording.next_step(10**exponent) > 10**exponent


@pytest.mark.parametrize("recording", [Recording(every=7), Recording(per_decade=5), Recording()], ids=str)
def test_the_next_step_is_the_first_recorded_one_after_any_step(recording: Recording) -> None:
    steps = recorded(recording, 3000)
    assert all(before < after for before, after in pairwise(steps))
    for step in range(3000):
        assert recording.next_step(step) == next(later for later in steps if later > step)


def test_linear_steps_are_the_multiples() -> None:
    assert recorded(Recording(every=250), 1000) == [0, 250, 500, 750, 1000]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"every": 10, "per_decade": 3},
            ValueError,
            "`every` or `per_decade` must be None, .*, per_decade=3",
        ),
        ({"every": 0}, ValueError, "`every` must be at least 1, got 0"),
        ({"every": 2.0}, TypeError, "`every` must be a whole number, got 2.0"),
        ({"per_decade": 0}, ValueError, "`per_decade` must be at least 1"),
        ({"per_decade": 1001}, ValueError, "`per_decade` must be at most 1000, got 1001"),
        ({"per_decade": "3"}, TypeError, "`per_decade` must be a whole number"),
        ({"singular_values": -1}, ValueError, "`singular_values` must be at least 0"),
        ({"singular_values": 1.5}, TypeError, "`singular_values` must be a whole number"),
        ({"norms": 1}, TypeError, "`norms` must be True or False, got 1"),
        ({"spectrum": None}, TypeError, "`spectrum` must be True or False"),
        ({"balancedness": "yes"}, TypeError, "`balancedness` must be True or False"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Recording(**options)
