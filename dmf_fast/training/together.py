"""Concurrent execution of runs on one GPU: runs in blocks share launches; one run may use another engine."""

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

# Threads that resume the courses of a GPU, since now and then all of them write a checkpoint at once.
HELPERS = 8


class GpuCourses:
    """The running courses of one GPU, at most ``most`` at once and at most one with an engine without blocks.

    Args:
        most: maximum number of courses at once.
        stream: stream of the GPU for all work; None without a GPU.
        helpers: threads that resume courses between slices.

    """

    def __init__(self, most: int, stream: torch.cuda.Stream | None, helpers: Executor) -> None:
        self._most, self._stream, self._helpers = most, stream, helpers
        self._requests: dict[Course[bool], Request] = {}
        self._launches: defaultdict[torch.dtype, BlockLaunches] = defaultdict(BlockLaunches)

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def have_room(self) -> bool:
        """Whether another course may begin; not while one without blocks runs, which would delay it."""
        return len(self._requests) < self._most and None not in map(_dtype_in_block, self._requests.values())

    def begin(self, course: Course[bool]) -> bool:
        """Begin a course; return True, or the result of the course if it requests no steps."""
        with torch.cuda.stream(self._stream):
            try:
                self._requests[course] = next(course)
            except StopIteration as end:
                return bool(end.value)
        return True

    def make_slice(self) -> None:
        """Execute one slice of each course; courses in blocks of the same dtype share a launch.

        Errors are raised inside the courses that requested the steps. Courses that have ended are removed.
        """
        sorts: dict[torch.dtype | None, list[Course[bool]]] = {}
        for course, request in self._requests.items():
            sorts.setdefault(_dtype_in_block(request), []).append(course)
        for dtype, courses in sorts.items():
            try:
                with torch.cuda.stream(self._stream):
                    outcomes = self._outcomes(dtype, [self._requests[course] for course in courses])
            except BaseException as error:
                self._resume([(course, partial(course.throw, error)) for course in courses])
            else:
                answers = [(one, partial(one.send, end)) for one, end in zip(courses, outcomes, strict=True)]
                shares = [answers[first::HELPERS] for first in range(min(HELPERS, len(answers)))]
                list(self._helpers.map(self._resume, shares))

    def close(self) -> None:
        """Close all running courses."""
        for course in self._requests:
            course.close()
        self._requests.clear()

    def _outcomes(self, dtype: torch.dtype | None, requests: Sequence[Request]) -> list[Outcome]:
        if dtype is None:
            return [make_slice(request) for request in requests]
        blocks = [(one.engine, one.until) for one in requests if isinstance(one.engine, CudaBlockEngine)]
        return self._launches[dtype].launch(blocks, most_seconds=course_module.SECONDS_A_SLICE)

    def _resume(self, answers: Sequence[tuple[Course[bool], Callable[[], Request]]]) -> None:
        """Resume courses with their outcomes; several threads do this for disjoint sets of courses."""
        with torch.cuda.stream(self._stream):
            for course, answer in answers:
                try:
                    self._requests[course] = answer()
                except StopIteration:
                    del self._requests[course]


def _dtype_in_block(request: Request) -> torch.dtype | None:
    """Return the dtype of a run in a block; None for another engine."""
    return request.engine.memory.dtype if isinstance(request.engine, CudaBlockEngine) else None
