"""The search for the model that best predicts validation entries: biases alone, depth 2, or deeper.

Every phase starts from the best state of the one before, so that depth is added only if it pays: the product
of depth 2 is split into balanced factors of depth 3, whose decay removes the directions of noise and hardly
shrinks the others, and so on. If depth 2 gains little over the biases, there is nothing to build on, and the
search tries the leading directions of the gradient at depth 3 directly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.phases import begin, search_options
from dmf_fast.completion.starts import Phase, Prepared, Start
from dmf_fast.training import FitResult
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.options import FitOptions

# The largest depth that `depth="auto"` tries.
MOST_DEPTH = 4
# If depth 2 lowers the error of the biases by less, its product is no better a start than the gradient.
_GAIN_TO_BUILD_ON = 0.01
# Relative differences that count as equal, so that the simpler model wins: among factors, and to the biases.
_EQUAL, _LEAST_GAIN = 1e-4, 1e-3
_UNFINISHED = ("interrupted", "diverged", "callback", "max_seconds")


@dataclass(frozen=True, eq=False)
class PhaseRun:
    """A phase that has been run.

    Attributes:
        phase: the phase.
        result: of the run.
        loss_ratio: training loss at its best step, or else its last one, relative to its first.
        starts: with the trained models, one per fold; empty once the job is done.

    """

    phase: Phase
    result: FitResult
    loss_ratio: float
    starts: tuple[Start, ...] = ()

    @property
    def steps(self) -> int:
        """Number of steps to the state that is used."""
        best = self.result.best_step
        return self.result.steps if best is None else best

    @property
    def is_finished(self) -> bool:
        """Whether the run ended by itself."""
        return self.result.stopped_because not in _UNFINISHED


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that may be chosen.

    Attributes:
        name: such as ``"biases"``, ``"depth 3"`` or ``"depth 3, spectral start"``.
        depth: number of factors; 0 for the biases alone.
        validation_rmse: over all folds; None without validation entries.
        runs: the phases that lead to it.

    """

    name: str
    depth: int
    validation_rmse: float | None
    runs: tuple[PhaseRun, ...] = ()


class PhaseRunner(Protocol):
    """Runs a phase on all folds."""

    def __call__(
        self, name: str, starts: Sequence[Start], parts: Sequence[Prepared], options: FitOptions
    ) -> PhaseRun:
        """Train the models of ``starts`` in place, up to their common best step."""


class Search:
    """All phases of a search, in order, and the candidates that they produce.

    Attributes:
        parts: the folds.
        runs: the phases run so far.
        candidates: the models found so far, starting with the biases.

    """

    def __init__(
        self, parts: Sequence[Prepared], options: CompletionOptions, fit: FitOptions, run: PhaseRunner
    ) -> None:
        """Prepare a search on the folds, with the runner that trains on them."""
        self.parts, self._options, self._fit, self._run = parts, options, fit, run
        self.runs: list[PhaseRun] = []
        self.candidates: list[Candidate] = []

    @property
    def chosen(self) -> Candidate:
        """The simplest candidate whose validation error is the lowest, up to a negligible difference.

        The biases alone get a larger tolerance: a model that lowers their error by less than a thousandth
        does so by chance.
        """
        errors = [math.inf if one.validation_rmse is None else one.validation_rmse for one in self.candidates]
        for candidate, error in zip(self.candidates, errors, strict=True):
            if error <= (1 + (_EQUAL if candidate.depth else _LEAST_GAIN)) * min(errors):
                return candidate
        return self.candidates[0]

    def search(self) -> None:
        """Run all phases."""
        options = self._options
        depth = 2 if options.depth == "auto" else options.depth
        if self.parts[0].coordinates is not None and self.parts[0].validation is not None:
            self.candidates.append(self._biases())
        if not options.has_spectral_phases or self.parts[0].validation is None:
            self._add(f"depth {depth}", self._phase(Phase(depth, options.start)))
            return
        if depth > 2 and not options.weight_decay:
            self._add_spectral(depth)
            return
        first = self._phase(Phase(min(depth, 2), "spectral"))
        if depth <= 2 or not first.runs[-1].is_finished:
            self._add(f"depth {first.depth}", first)
        last = MOST_DEPTH if options.depth == "auto" else depth
        if last > 2 and first.runs[-1].is_finished:
            self._go_deeper(first, last)

    @property
    def has_diverged(self) -> bool:
        """Whether the first phase diverged, so that only the biases are left."""
        return self.runs[0].result.stopped_because == "diverged"

    def _go_deeper(self, first: Candidate, last: int) -> None:
        """Split the product of depth 2, and start over from the gradient if depth 2 gained little.

        Without a decay, nothing would remove the directions of noise from a product.
        """
        if self._options.weight_decay:
            self._deepen(first, last)
        biases = self.candidates[0].validation_rmse
        assert biases is not None
        assert first.validation_rmse is not None
        gains_little = first.validation_rmse > (1 - _GAIN_TO_BUILD_ON) * biases
        if (gains_little or not self._options.weight_decay) and self.runs[-1].is_finished:
            self._add_spectral(3 if self._options.depth == "auto" else last)

    def _add_spectral(self, depth: int) -> None:
        self._add(f"depth {depth}, spectral start", self._phase(Phase(depth, "spectral")))

    def _deepen(self, before: Candidate, last: int) -> None:
        """Split the product repeatedly, at automatic depth as long as it pays."""
        automatic = self._options.depth == "auto"
        if automatic and not before.runs[-1].steps:
            return
        for depth in range(3, last + 1):
            deeper = self._phase(Phase(depth, "product"), before)
            run = deeper.runs[-1]
            if run.result.stopped_because == "diverged":
                self._add(f"depth {before.depth}", before)
            elif automatic or depth == last or not run.is_finished:
                self._add(f"depth {depth}", deeper)
            if not run.is_finished or (automatic and not run.steps):
                return
            before = deeper

    def _phase(self, phase: Phase, before: Candidate | None = None) -> Candidate:
        """Run a phase on all folds."""
        befores: Sequence[Start | None] = [None] * len(self.parts)
        if before is not None:
            befores = before.runs[-1].starts
        starts = [
            begin(phase, part, self._options, own) for part, own in zip(self.parts, befores, strict=True)
        ]
        run = self._run(
            f"search-{phase.name}", starts, self.parts, search_options(phase, self._options, self._fit)
        )
        self.runs.append(run)
        earlier = () if before is None else before.runs
        rmse = best_rmse(run.result)
        return Candidate(phase.name, phase.depth, rmse, (*earlier, run))

    def _add(self, name: str, candidate: Candidate) -> None:
        is_lost = candidate.runs[-1].result.stopped_because == "diverged" and self.candidates
        if not is_lost and name not in {one.name for one in self.candidates}:
            self.candidates.append(replace(candidate, name=name))

    def _biases(self) -> Candidate:
        """Return the candidate without factors, which every other candidate has to beat."""
        squares = []
        for part in self.parts:
            assert part.coordinates is not None
            assert part.validation is not None
            squares.append(mean_squared_error(part.coordinates.without_factors(), part.validation))
        name = "biases" if self._options.bias else "mean" if self._options.center else "zero"
        return Candidate(name, 0, math.sqrt(math.fsum(squares) / len(squares)))


def best_rmse(result: FitResult) -> float | None:
    """Return the validation RMSE of the best step."""
    if result.best_step is None:
        return None
    rows = result.history
    return rows["validation_rmse"][rows["step"].index(result.best_step)]
