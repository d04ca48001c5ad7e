"""Courses of runs in blocks of one GPU, which advance together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic

from dmf_fast.training.course import SECONDS_A_SLICE, Advance, Course, T, drive
from dmf_fast.training.engines.cuda_block import BlockLaunches, CudaBlockEngine


class BlockCourses(Generic[T]):
    """Courses under way, all of whose steps are made in one launch a slice."""

    def __init__(self) -> None:
        self._asked: dict[Course[T], tuple[CudaBlockEngine, int]] = {}
        self._launches = BlockLaunches()

    def __len__(self) -> int:
        return len(self._asked)

    def begin(self, course: Course[T]) -> T | None:
        """Take a course in; or return what it returns, where it needs no steps or no block makes them.

        Steps of other engines are made here, one run after the other, while those under way wait.
        """
        try:
            asked = next(course)
        except StopIteration as end:
            result: T = end.value
            return result
        if not isinstance(asked.engine, CudaBlockEngine):
            return drive(course, asked)
        self._asked[course] = (asked.engine, asked.until)
        return None

    def advance(self) -> None:
        """Launch once, and have every course go on; the courses that have ended are no longer under way.

        A launch that fails does so in every course.
        """
        asked = dict(self._asked)
        try:
            self._launches.advance(list(asked.values()), most_seconds=SECONDS_A_SLICE)
        except BaseException as error:
            for course in asked:
                self._go_on(course, partial(course.throw, error))
        else:
            for course, (engine, until) in asked.items():
                self._go_on(course, partial(course.send, engine.outcome(until)))

    def close(self) -> None:
        """End the courses under way where they are."""
        for course in self._asked:
            course.close()
        self._asked.clear()

    def _go_on(self, course: Course[T], answer: Callable[[], Advance]) -> None:
        engine, _ = self._asked.pop(course)
        try:
            asked = answer()
        except StopIteration:
            return
        assert asked.engine is engine
        self._asked[course] = (engine, asked.until)
