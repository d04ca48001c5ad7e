"""Courses of runs on one GPU: those in blocks go on together, and one of another engine beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

import torch

from dmf_fast._native import Outcome
from dmf_fast.training import course as course_module
from dmf_fast.training.course import Course, Request, make_slice
from dmf_fast.training.engines.cuda_block import BlockLaunches, CudaBlockEngine

# Threads that the courses of a GPU go on in: now and then all of them write a checkpoint at once.
HELPERS = 8


class GpuCourses:
    """Courses under way on one GPU: ``most`` at once, of which one at most is of another engine than blocks.

    Args:
        most: so many.
        stream: of the GPU, which has all work; None where there is no GPU.
        helpers: the threads that courses go on in between slices.

    """

    def __init__(self, most: int, stream: torch.cuda.Stream | None, helpers: Executor) -> None:
        self._most, self._stream, self._helpers = most, stream, helpers
        self._requests: dict[Course[bool], Request] = {}
        self._launches: defaultdict[torch.dtype, BlockLaunches] = defaultdict(BlockLaunches)

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def have_room(self) -> bool:
        """Whether one more may begin: none beside one of another engine, which would make it wait."""
        return len(self._requests) < self._most and None not in map(_dtype_in_block, self._requests.values())

    def begin(self, course: Course[bool]) -> bool:
        """Take a course in; or return what it returns, where it asks for no steps."""
        with torch.cuda.stream(self._stream):
            try:
                self._requests[course] = next(course)
            except StopIteration as end:
                return bool(end.value)
        return True

    def make_slice(self) -> None:
        """Have every course go on by a slice: those in blocks of a dtype by a launch.

        Where steps fail, they do so in the courses that asked for them. The courses that have ended are no
        longer under way.
        """
        sorts: dict[torch.dtype | None, list[Course[bool]]] = {}
        for course, request in self._requests.items():
            sorts.setdefault(_dtype_in_block(request), []).append(course)
        for dtype, courses in sorts.items():
            try:
                with torch.cuda.stream(self._stream):
                    outcomes = self._outcomes(dtype, [self._requests[course] for course in courses])
            except BaseException as error:  # noqa: PERF203 (each may fail)
                self._go_on([(course, partial(course.throw, error)) for course in courses])
            else:
                answers = [(one, partial(one.send, end)) for one, end in zip(courses, outcomes, strict=True)]
                shares = [answers[first::HELPERS] for first in range(min(HELPERS, len(answers)))]
                list(self._helpers.map(self._go_on, shares))

    def close(self) -> None:
        """End the courses under way where they are."""
        for course in self._requests:
            course.close()
        self._requests.clear()

    def _outcomes(self, dtype: torch.dtype | None, requests: Sequence[Request]) -> list[Outcome]:
        if dtype is None:
            return [make_slice(request) for request in requests]
        blocks = [(one.engine, one.until) for one in requests if isinstance(one.engine, CudaBlockEngine)]
        return self._launches[dtype].launch(blocks, most_seconds=course_module.SECONDS_A_SLICE)

    def _go_on(self, answers: Sequence[tuple[Course[bool], Callable[[], Request]]]) -> None:
        """Give courses their answers; other threads do so with others meanwhile."""
        with torch.cuda.stream(self._stream):
            for course, answer in answers:
                try:
                    self._requests[course] = answer()
                except StopIteration:  # noqa: PERF203 (each may end)
                    del self._requests[course]


def _dtype_in_block(request: Request) -> torch.dtype | None:
    """Return the dtype of a run in a block, None for one of another engine."""
    return request.engine.memory.dtype if isinstance(request.engine, CudaBlockEngine) else None
