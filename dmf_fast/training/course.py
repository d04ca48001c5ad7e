"""The course of a run, which asks for steps, and `drive`, which has its engine make them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple, TypeVar

from dmf_fast._native import Outcome
from dmf_fast.training.engines.protocol import Engine

# An engine comes back this often, for Ctrl-C, the time and the bar.
SECONDS_A_SLICE = 0.1

T = TypeVar("T")


class Request(NamedTuple):
    """What a course asks for.

    Attributes:
        engine: is to make steps,
        until: so many in all, or less, if they would take longer than a slice; see `Engine.run`.

    """

    engine: Engine
    until: int


# Yields what it asks for, is sent how that ended, and returns what the run has come to.
Course = Generator[Request, Outcome, T]


def drive(course: Course[T]) -> T:
    """Have a course's engine make all steps that it asks for, and return what it returns.

    Where an engine fails, it does so in the course.
    """
    with closing(course):
        try:
            request = next(course)
            while True:
                try:
                    outcome = make_slice(request)
                except BaseException as error:  # noqa: PERF203 (each slice may fail)
                    request = course.throw(error)
                else:
                    request = course.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result


def make_slice(request: Request) -> Outcome:
    """Have the engine make the steps, or those of a slice."""
    return request.engine.run(request.until, most_seconds=SECONDS_A_SLICE)
