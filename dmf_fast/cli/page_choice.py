"""What a job chose and why, as a part of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from dmf_fast.cli.page_topic import Topic
from dmf_fast.page.content import ResultTable

_TITLE = "What was chosen, and why"
_ENDED = {
    None: None,
    "steps": "it reached the maximum number of steps (--steps)",
    "train_loss_threshold": "its training loss reached the threshold",
    "gradient_norm_threshold": "its gradient reached the threshold",
    "patience": "the validation error no longer improved",
    "callback": "a callback ended it",
    "max_seconds": "its time was up (--max-seconds)",
    "diverged": "the loss was no longer finite; the last good state was kept",
}
# What is left of a model without factors, by the name of that candidate.
_WITHOUT_FACTORS = {"biases": "the biases alone", "mean": "the mean alone", "zero": "predicting 0"}


def choice_topic(run: Mapping[str, Any]) -> Topic:
    """Return which candidate became the model, and why."""
    facts = {"chosen": run["chosen"], "optimizer": f"{run['optimizer']} ({run['engine']} engine)"}
    if run["validation_rmse"] is None:
        text = (
            "There were no validation ratings to choose by: the model is the state after the last step. The "
            f"training ended because {_ENDED[run['stopped_because']]}."
        )
        return Topic(_TITLE, text, facts | {"steps": f"{run['steps']:,}"})
    facts["step"] = f"{run['best_step']:,}, of {run['steps']:,} steps of all candidates together"
    if run["refit"]:
        facts["then"] = f"trained again on all ratings, for {run['refit_steps'] or 0:,} steps"
    for trial in run["widths"]:
        share = trial["tail_share"]
        facts[f"width {trial['width']}"] = (
            "not judged, as the loss hardly fell"
            if share is None
            else f"the smaller half of its singular values holds {share:.2%} of the nuclear norm"
        )
    table = {
        "candidate": [one["name"] for one in run["candidates"]],
        "validation_RMSE": [one["validation_rmse"] for one in run["candidates"]],
        "steps": [one["steps"] for one in run["candidates"]],
        "training_ended_because": [_ENDED[one["stopped_because"]] for one in run["candidates"]],
        "chosen": [one["name"] == run["chosen"] for one in run["candidates"]],
    }
    caption = "The candidates, each at its best step."
    return Topic(_TITLE, _reason(run), facts, tables=[ResultTable(pa.table(table), caption, digits=4)])


def _reason(run: Mapping[str, Any]) -> str:
    """Return the rule that chose among the candidates of this run."""
    first, *others = (one["name"] for one in run["candidates"])
    if others:
        text = (
            "The candidate with the lowest validation RMSE was chosen; of candidates within 0.01% of it, the "
            "simplest one."
        )
    else:
        text = "There was only one candidate: the model is its state with the lowest validation RMSE."
    if others and first in _WITHOUT_FACTORS:
        least = _WITHOUT_FACTORS[first]
        text += f" Factors are only used if they lower the RMSE of {least} by more than 0.1%."
    if not run["left_start"]:
        text += "\n\nThe factors contribute nothing to the predictions."
    return text
