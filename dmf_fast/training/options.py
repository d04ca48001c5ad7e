"""Options of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dmf_fast.options import Option, Options


@dataclass(frozen=True)
class FitOptions(Options):
    """How long and how `dmf_fast.fit` trains; see `Recording` for what is recorded.

    Raises:
        ValueError: an option is out of range.
        TypeError: an option has the wrong type, such as a float for an integer.

    Example:
        >>> FitOptions(steps=100, train_loss_threshold=1e-6).reduction
        'mean'

    """

    steps: Annotated[int, Option("Maximum number of updates.", least=0)] = 10_000
    reduction: Annotated[Literal["mean", "sum"], Option("Reduction of the loss that is minimized.")] = "mean"
    train_loss_threshold: Annotated[
        float | None,
        Option(
            "Stop when the mean train loss is at most this.",
            "Checked in every step; with batches it is the loss of the batch.",
            least=0,
        ),
    ] = None
    gradient_norm_threshold: Annotated[
        float | None,
        Option("Stop when the norm of all gradients is at most this.", "Checked in every step.", least=0),
    ] = None
    patience: Annotated[
        int | None,
        Option(
            "Stop after this many recorded rows without a better validation RMSE.",
            "Rows count once the train loss has changed by 1%, since a run near zero rests for some time. "
            "A run that never moves stops after five times as many.",
            least=1,
        ),
    ] = None
    patience_after: Annotated[
        int, Option("Rows before this step do not count towards the patience.", least=0)
    ] = 0
    gradient_clip: Annotated[
        float | None, Option("Clip the norm of all gradients together to this.", above=0)
    ] = None
    seed: Annotated[
        int | None,
        Option(
            "Seed of the batches, and of torch's generator during the run.",
            least=0,
            none="0 for the batches; the generator is not seeded",
        ),
    ] = None
    progress: Annotated[
        bool | None,
        Option("Show a progress bar on standard error.", none="only on a terminal", key=""),
    ] = None
    checkpoint_every: Annotated[
        int | None,
        Option(
            "Steps between checkpoints; 0 for none.",
            "The final state is always saved if there is a folder for it.",
            least=0,
            none="about every 30 seconds, in at most 2% of the time",
        ),
    ] = None
    max_seconds: Annotated[float | None, Option("Stop after this many seconds of the call.", least=0)] = None
    batches: Annotated[
        int, Option("Number of random batches of the training entries, used in turn.", least=1)
    ] = 1
    engine: Annotated[
        Literal["auto", "native", "torch", "cuda_block", "cuda_graph"],
        Option("What makes the steps.", "``FitResult.engine`` tells which engine it was."),
    ] = "auto"
