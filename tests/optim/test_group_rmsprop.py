"""GroupRMSprop against its formula, written out for plain numbers."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast.optim import GroupRMSprop


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def by_hand(
    weights: list[list[float]],
    gradients: list[list[list[float]]],
    lrs: list[float],
    alpha: float,
    eps: float,
) -> list[list[float]]:
    """One list of numbers a parameter; ``gradients[t]`` are those of step t."""
    average = 0.0
    for step, now in enumerate(gradients, start=1):
        average = alpha * average + (1 - alpha) * sum(g * g for parameter in now for g in parameter)
        root = math.sqrt(average / (1 - alpha**step))
        weights = [
            [w - lr / (root + eps) * g for w, g in zip(parameter, gradient, strict=True)]
            for parameter, gradient, lr in zip(weights, now, lrs, strict=True)
        ]
    return weights


@pytest.mark.parametrize(("alpha", "eps"), [(0.99, 1e-6), (0.5, 0.3), (0.0, 0.0)])
@pytest.mark.parametrize("lrs", [[0.1, 0.1], [0.1, 0.003]])
def test_steps_are_those_of_the_formula(alpha: float, eps: float, lrs: list[float]) -> None:
    shapes = [(3, 4), (5,)]
    parameters = [torch.nn.Parameter(drawn(*shape, seed=0)) for shape in shapes]
    start = [parameter.flatten().tolist() for parameter in parameters]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, lrs, strict=True)]
    optimizer = GroupRMSprop(groups, 0.1, alpha, eps)
    gradients = [[drawn(*shape, seed=10 + step) * 2.0**-step for shape in shapes] for step in range(30)]
    for now in gradients:
        for parameter, gradient in zip(parameters, now, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    flat = [[gradient.flatten().tolist() for gradient in now] for now in gradients]
    expected = by_hand(start, flat, lrs, alpha, eps)
    for parameter, numbers in zip(parameters, expected, strict=True):
        torch.testing.assert_close(
            parameter.detach().flatten(), torch.tensor(numbers, dtype=torch.float64), rtol=1e-12, atol=1e-13
        )


def descend(parameters: list[torch.nn.Parameter], optimizer: GroupRMSprop, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(((parameter - 1.7) ** 2).sum() * 0.3 for parameter in parameters)
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("through_file", [False, True])
def test_a_loaded_state_resumes_bit_identically(dtype: torch.dtype, through_file: bool) -> None:
    whole = [torch.nn.Parameter(drawn(*shape, seed=1, dtype=dtype)) for shape in ((4, 3), (2,))]
    parts = copy.deepcopy(whole)
    optimizer = GroupRMSprop(whole, 0.01)
    descend(whole, optimizer, 40)

    first = GroupRMSprop(parts, 0.01)
    descend(parts, first, 17)
    state: Any = first.state_dict()
    if through_file:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        state = torch.load(file)
    second = GroupRMSprop(parts, 99.0)
    second.load_state_dict(state)
    average = second.state[parts[0]]["square_average"]
    assert average.dtype == torch.float64
    assert torch.equal(average, first.state[parts[0]]["square_average"])
    descend(parts, second, 23)
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_loading_shares_nothing_with_the_saved_state() -> None:
    parameters = [torch.nn.Parameter(drawn(3, seed=1))]
    optimizer = GroupRMSprop(parameters, 0.01)
    descend(parameters, optimizer, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    before = saved["state"][0]["square_average"].clone()
    optimizer.load_state_dict(saved)
    descend(parameters, optimizer, 3)
    assert torch.equal(saved["state"][0]["square_average"], before)


def test_an_unused_optimizer_saves_and_loads() -> None:
    parameters = [torch.nn.Parameter(drawn(3, seed=1))]
    state = GroupRMSprop(parameters, 0.01).state_dict()
    GroupRMSprop(parameters, 0.02).load_state_dict(state)


def test_parameters_without_a_gradient_stay() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = GroupRMSprop([unused, used], 0.1, eps=0.0)
    optimizer.step()
    used.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    assert unused.tolist() == [1.0, 1.0]
    assert used.tolist() == pytest.approx([1 - 0.1 * 0.6, 1 - 0.1 * 0.8])


def test_weight_decay_is_a_part_of_the_gradient() -> None:
    plain, decayed = (torch.nn.Parameter(drawn(4, seed=3)) for _ in range(2))
    plain.grad = drawn(4, seed=4) + 0.2 * plain.detach()
    decayed.grad = drawn(4, seed=4)
    GroupRMSprop([plain], 0.1).step()
    GroupRMSprop([decayed], 0.1, weight_decay=0.2).step()
    torch.testing.assert_close(plain, decayed)
    assert torch.equal(decayed.grad, drawn(4, seed=4))


def test_the_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = GroupRMSprop([weight], 0.1)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 4.0
    assert weight.tolist() == pytest.approx([1.9])


def test_half_precision_gradients_do_not_overflow_the_sum() -> None:
    weight = torch.nn.Parameter(torch.zeros(10_000, dtype=torch.float16))
    weight.grad = torch.full_like(weight, 1000.0)  # norm 1e5, beyond float16
    GroupRMSprop([weight], 1.0).step()
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, -0.01), rtol=1e-2, atol=0)


def test_sparse_gradients_are_refused() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = torch.eye(3)[0].to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        GroupRMSprop([weight], 0.1).step()


@pytest.mark.parametrize(
    "options",
    [{"lr": -1.0}, {"lr": math.nan}, {"alpha": 1.0}, {"alpha": -0.1}, {"eps": -1e-9}, {"weight_decay": -1.0}],
)
def test_an_option_out_of_range_is_named(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GroupRMSprop([torch.nn.Parameter(torch.zeros(1))], **({"lr": 0.1} | options))


def test_groups_must_agree_about_alpha() -> None:
    one, other = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    with pytest.raises(ValueError, match="`alpha` must be the same in all groups"):
        GroupRMSprop([{"params": [one]}, {"params": [other], "alpha": 0.9}], 0.1)
