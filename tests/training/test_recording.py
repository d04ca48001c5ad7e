"""When a run records, against the definition in sixty digits."""

from __future__ import annotations

from decimal import Decimal, getcontext
from itertools import pairwise
from typing import Any

import pytest

from dmf_fast.training import FitOptions, Recording


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


def test_twenty_steps_per_decade_are_recorded_by_default() -> None:
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


def test_by_default_only_norms_are_recorded_in_addition_to_errors() -> None:
    assert Recording() == Recording(
        every=None, per_decade=None, singular_values=0, norms=True, spectrum=False, balancedness=False
    )
    counts = [Recording(singular_values=count).singular_value_count((4, 3)) for count in (0, 2, 3, 9, None)]
    assert counts == [0, 2, 3, 3, 3]


def test_a_run_has_ten_thousand_steps_and_no_other_end_by_default() -> None:
    assert FitOptions() == FitOptions(
        steps=10_000,
        reduction="mean",
        train_loss_threshold=None,
        gradient_norm_threshold=None,
        patience=None,
        patience_after=0,
        gradient_clip=None,
        seed=None,
        progress=None,
        checkpoint_every=None,
        max_seconds=None,
        batches=1,
        engine="auto",
    )


@pytest.mark.parametrize(
    ("least", "refused"),
    [
        ({"steps": 0}, {"steps": -1}),
        ({"train_loss_threshold": 0.0}, {"train_loss_threshold": -1e-9}),
        ({"gradient_norm_threshold": 0.0}, {"gradient_norm_threshold": -1e-9}),
        ({"patience": 1}, {"patience": 0}),
        ({"patience_after": 0}, {"patience_after": -1}),
        ({"gradient_clip": 1e-9}, {"gradient_clip": 0.0}),
        ({"seed": 0}, {"seed": -1}),
        ({"checkpoint_every": 0}, {"checkpoint_every": -1}),
        ({"max_seconds": 0.0}, {"max_seconds": -1e-9}),
        ({"batches": 1}, {"batches": 0}),
    ],
)
def test_the_least_that_an_option_may_be_is_taken_and_no_less(
    least: dict[str, Any], refused: dict[str, Any]
) -> None:
    ((name, value),) = least.items()
    assert getattr(FitOptions(**least), name) == value
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        FitOptions(**refused)
