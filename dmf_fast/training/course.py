"""The course of a run, a generator that requests steps, and `drive`, which executes them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple, TypeVar

from dmf_fast._native import Outcome
from dmf_fast.training.engines.protocol import Engine

# How often an engine returns control, for Ctrl-C, time limits and the progress bar.
SECONDS_A_SLICE = 0.1

T = TypeVar("T")


class Request(NamedTuple):
    """A request of a course for steps.

    Attributes:
        engine: the engine to make the steps.
        until: the step to reach, unless that takes longer than a slice; see `Engine.run`.

    """

    engine: Engine
    until: int


# Yields requests, receives their outcomes, and returns the result of the run.
Course = Generator[Request, Outcome, T]


def drive(course: Course[T]) -> T:
    """Execute all requests of a course, and return its result.

    Errors of an engine are raised inside the course.
    """
    with closing(course):
        try:
            request = next(course)
            while True:
                try:
                    outcome = make_slice(request)
                except BaseException as error:
                    request = course.throw(error)
                else:
                    request = course.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result


def make_slice(request: Request) -> Outcome:
    """Execute a request for at most one slice of time."""
    return request.engine.run(request.until, most_seconds=SECONDS_A_SLICE)
