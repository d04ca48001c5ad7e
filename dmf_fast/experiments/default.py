"""The paper's own setting: deep factorization recovers a low-rank matrix that a shallow one does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dmf_fast.completion import PAPER, CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.experiments.synthetic import LowRankProblem, low_rank_problem


@dataclass(frozen=True)
class PaperSetting:
    """Rank 5, 100 × 100, 2,000 observed entries, full hidden width, depths 2 and 3.

    Source: Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization", 2019, section 2.
    The options are `dmf_fast.completion.PAPER`; a run takes about 12,000 steps.
    """

    rows: int = 100
    columns: int = 100
    rank: int = 5
    observed: int = 2_000
    noise: float = 0.0
    depths: tuple[int, ...] = (2, 3)
    seed: int = 0
    training: CompletionOptions = PAPER

    def problem(self) -> LowRankProblem:
        """Draw the matrix and its observed entries."""
        return low_rank_problem(
            self.rows, self.columns, self.rank, self.observed, self.seed, noise=self.noise
        )


def run(
    setting: PaperSetting | None = None, *, after_run: Callable[[CompletedMatrix], None] | None = None
) -> list[CompletedMatrix]:
    """Train one model per depth on the same entries and return the runs in the order of the depths.

    ``setting`` defaults to `PaperSetting()`. ``after_run`` is called with each run when it ends.

    >>> small = PaperSetting(rows=8, columns=8, rank=1, observed=30, training=PAPER.changed({"steps": 3}))
    >>> [(one.options.depth, one.result.steps) for one in run(small)]
    [(2, 3), (3, 3)]
    """
    setting = PaperSetting() if setting is None else setting
    problem = setting.problem()
    runs = []
    for depth in setting.depths:
        settings = replace(setting.training, depth=depth, seed=setting.seed)
        runs.append(complete_matrix(problem.train, settings, test=problem.test, truth=problem.truth))
        if after_run is not None:
            after_run(runs[-1])
    return runs
