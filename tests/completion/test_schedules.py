"""Learning rates over the steps."""

from __future__ import annotations

import pytest
import torch

from dmf_fast.completion import SCHEDULES, make_scheduler


def rates(name: str, warmup: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = make_scheduler(name, optimizer, steps=10, warmup=warmup)
    seen = []
    for _ in range(11):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return seen


def test_schedules_begin_at_the_rate_after_the_warmup_and_end_where_they_should() -> None:
    assert rates("constant", 0) == [2.0] * 11
    assert rates("linear", 0)[:3] == pytest.approx([2.0, 1.8, 1.6])
    assert rates("cosine", 0)[5] == pytest.approx(1.0)
    for name in SCHEDULES:
        seen = rates(name, 4)
        assert seen[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
        assert seen[10] == pytest.approx(2.0 if name == "constant" else 0.0)


@pytest.mark.parametrize(("name", "rate"), [("constant", 2.0), ("linear", 0.0), ("cosine", 0.0)])
def test_a_run_past_the_end_of_the_schedule_keeps_the_last_rate(name: str, rate: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = make_scheduler(name, optimizer, steps=4, warmup=1)
    for _ in range(7):
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_a_rate_that_never_changes_needs_no_scheduler() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    assert make_scheduler("constant", optimizer, steps=4) is None
    assert make_scheduler("linear", optimizer, steps=4) is not None
