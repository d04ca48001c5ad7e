"""Trials whose runs are made in blocks of a GPU, or by another engine next to them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, Trial
from tests.training.test_fit_many import observations


def trial(seed: int, *, depth: int = 2, steps: int = 40, every: int = 20, **given: Any) -> Trial:
    train, validation = observations()
    dtype, engine = given.pop("dtype", torch.float32), given.pop("engine", "cuda_block")
    return Trial(
        {"seed": seed},
        initialize("gaussian", (9, *[8] * (depth - 1), 12), 0.3, seed=seed, dtype=dtype),
        train.to(dtype=dtype),
        given.pop("optimizer", partial(GroupRMSprop, lr=0.005)),
        FitOptions(steps=steps, engine=engine, seed=given.pop("draws", None), **given),
        Recording(every=every),
        validation=validation.to(dtype=dtype),
    )
