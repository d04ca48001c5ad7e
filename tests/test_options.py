"""Options: declared once; checked, documented, flattened and changed by that."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pytest

from dmf_fast.cli.app import COMMANDS
from dmf_fast.completion import OPTIMIZERS, PAPER, SCHEDULES, CompletionOptions
from dmf_fast.completion.options import Initialization, Optimizer, Schedule
from dmf_fast.convex import ConvexOptions
from dmf_fast.evaluation import EvaluationOptions, Shrinkage
from dmf_fast.initialization import INITIALIZATIONS
from dmf_fast.options import Option, Options, options_of
from dmf_fast.training import FitOptions, Recording
from dmf_fast.tuning import TuningOptions


@dataclass(frozen=True)
class Inner(Options):
    """What lies deeper."""

    seed: Annotated[int | None, Option("Of the inner one.")] = None
    hidden: Annotated[bool, Option("Not shown outside.", key="")] = False
    pace: Annotated[float, Option("How fast.", above=0, most=2, key="speed")] = 1.0


@dataclass(frozen=True)
class Outer(Options):
    """Where to go.

    Raises:
        ValueError: an option is out of range.

    """

    where: Annotated[Path, Option("The place.")]
    how: Annotated[Literal["on foot", "by train"], Option("The means.")] = "on foot"
    steps: Annotated[int, Option("Most steps.", "Many are no harm.", least=0)] = 10
    seed: Annotated[int, Option("Of all.", least=0)] = 0
    inner: Inner = Inner()


PLAIN: list[Any] = [
    FitOptions(5, "sum", 0.5, 0.25, 3, 1, 2.0, 9, None, 7, 2.0, 2, "torch"),
    Recording(every=3, singular_values=2),
    Recording(per_decade=3),
    PAPER,
    EvaluationOptions(bins=3, relevant_from=4.0),
    Shrinkage(1.0, 2.0),
    ConvexOptions(1e-3, 5, "dense"),
    TuningOptions(3, 9.0, 2),
]


def as_numpy(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return np.int64(value)
    return np.float64(value) if isinstance(value, float) else value


@pytest.mark.parametrize("plain", PLAIN, ids=lambda plain: type(plain).__name__)
def test_numbers_of_numpy_are_kept_as_plain_ones(plain: Any) -> None:
    given = {name: as_numpy(value) for name, value in vars(plain).items()}
    assert {np.int64, np.float64} & {type(value) for value in given.values()}

    same = replace(plain, **given)

    assert same == plain
    assert json.dumps(asdict(same)) == json.dumps(asdict(plain))


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"steps": -1}, ValueError, "`steps` must be at least 0, got -1"),
        ({"steps": 1.5}, TypeError, "`steps` must be a whole number, got 1.5"),
        ({"steps": True}, TypeError, "`steps` must be a whole number, got True"),
        ({"steps": None}, TypeError, "`steps` must be a whole number, got None"),
        ({"how": "by sea"}, ValueError, "`how` must be one of on foot, by train, got 'by sea'"),
        ({"how": ["on foot"]}, ValueError, r"`how` must be one of on foot, by train, got \['on foot'\]"),
        ({"speed": 0}, ValueError, "`pace` must be above 0, got 0.0"),
        ({"speed": 2.5}, ValueError, "`pace` must be at most 2, got 2.5"),
        ({"speed": float("nan")}, ValueError, "`pace` must be finite, got nan"),
        ({"speed": "1"}, TypeError, "`pace` must be a number, got '1'"),
        ({"where": ""}, ValueError, "`where` must be a path, got ''"),
        ({"where": "a\0b"}, ValueError, r"`where` must be a path without NUL, got 'a\\x00b'"),
        ({"hidden": True}, TypeError, "options must be among where, how, steps, seed, speed, got `hidden`"),
    ],
)
def test_what_an_option_cannot_be_is_said_in_one_form(
    given: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence + "$"):
        Outer(Path()).changed(given)


def test_a_group_must_be_one_of_its_kind() -> None:
    with pytest.raises(TypeError, match="`inner` must be Inner, got 3"):
        Outer(Path(), inner=3)  # type: ignore[arg-type]


def test_values_reach_the_field_that_declares_them_and_the_outer_one_of_two_with_one_key() -> None:
    changed = Outer.of({"where": "home", "seed": 5, "speed": 2})

    assert changed == Outer(Path("home"), seed=5, inner=Inner(pace=2.0))
    assert changed.inner.seed is None
    assert changed.values() == {
        "where": Path("home"), "how": "on foot", "steps": 10, "seed": 5, "speed": 2.0
    }  # fmt: skip
    assert Outer.of(changed.values()) == changed
    assert options_of(Outer)["speed"].name == "pace"


def test_the_documentation_tells_bounds_choices_and_defaults_before_the_errors() -> None:
    text = " ".join((Outer.__doc__ or "").split())

    assert "Attributes: where: The place. how: The means. One of" in text
    assert "steps: Most steps. Many are no harm. At least 0; default 10." in text
    assert text.index("inner: `Inner`.") < text.index("Raises:")


@pytest.mark.parametrize(
    "options",
    [*(type(plain) for plain in PLAIN), *COMMANDS.values()],
    ids=lambda options: options.__name__,
)
def test_every_option_is_documented(options: type[Options]) -> None:
    for name in options._fields:
        assert f"\n        {name}: " in (options.__doc__ or "")


def test_the_words_that_options_may_be_are_those_that_the_job_knows() -> None:
    assert set(get_args(Optimizer)) == set(OPTIMIZERS)
    assert set(get_args(Schedule)) == set(SCHEDULES)
    assert set(get_args(Initialization)) == {"spectral", *INITIALIZATIONS}


def test_an_optimizer_without_a_default_learning_rate_needs_one() -> None:
    with pytest.raises(ValueError, match="`lr` must be given for the optimizer 'adam'"):
        CompletionOptions(optimizer="adam")
    assert CompletionOptions(optimizer="group-rmsprop").lr is None
