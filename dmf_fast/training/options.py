"""How long and how a run trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dmf_fast.options import Option, Options


@dataclass(frozen=True)
class FitOptions(Options):
    """How long and how `dmf_fast.fit` trains; `Recording` says what is recorded meanwhile.

    Raises:
        ValueError: an option is out of range.
        TypeError: a number is not one, or a whole number not whole.

    Example:
        >>> FitOptions(steps=100, train_loss_threshold=1e-6).reduction
        'mean'

    """

    steps: Annotated[int, Option("Most updates.", least=0)] = 10_000
    reduction: Annotated[Literal["mean", "sum"], Option("Of the loss that is minimized.")] = "mean"
    train_loss_threshold: Annotated[
        float | None,
        Option(
            "Stop at this mean train loss.",
            "It is looked at in every step; with batches it is that of the batch.",
            least=0,
        ),
    ] = None
    gradient_norm_threshold: Annotated[
        float | None,
        Option("Stop at this norm of all gradients.", "It is looked at in every step.", least=0),
    ] = None
    patience: Annotated[
        int | None,
        Option(
            "Stop after so many recorded rows without a better validation RMSE.",
            "Rows count from the first one whose train loss has changed by a hundredth: near zero a run "
            "rests for some time. One that never moves is given five times as many.",
            least=1,
        ),
    ] = None
    patience_after: Annotated[
        int, Option("Rows of earlier steps do not count for the patience.", least=0)
    ] = 0
    gradient_clip: Annotated[
        float | None, Option("Largest norm of all gradients; longer ones are scaled down to it.", above=0)
    ] = None
    seed: Annotated[
        int | None,
        Option(
            "Seed of the batches, and of torch's generator during the run.",
            least=0,
            none="0 for the batches; the generator stays as it is",
        ),
    ] = None
    progress: Annotated[
        bool | None,
        Option("Whether a bar is shown on standard error.", none="where that is a terminal", key=""),
    ] = None
    checkpoint_every: Annotated[
        int | None,
        Option(
            "Steps between checkpoints; 0 for none.",
            "The state at the end is kept in any case, where there is a folder for it.",
            least=0,
            none="about every 30 seconds, for a fiftieth of the time at most",
        ),
    ] = None
    max_seconds: Annotated[float | None, Option("Stop after so many seconds of this call.", least=0)] = None
    batches: Annotated[
        int, Option("Random parts of the training entries that steps take in turn.", least=1)
    ] = 1
    engine: Annotated[
        Literal["auto", "native", "torch", "cuda_block", "cuda_graph"],
        Option("What makes the steps.", "``FitResult.engine`` says which it was."),
    ] = "auto"
