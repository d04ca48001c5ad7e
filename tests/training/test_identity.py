"""Digests of what a run is given: of any strides, any dtype and no entries at all."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.files.identity import sha256_of
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import OptimizerSpec
from dmf_fast.training import FitOptions
from dmf_fast.training.identity import identity_of_run
from dmf_fast.training.measures import Measures

EMPTY = Observations([], [], [], (3, 4))
MATRIX = torch.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    "view",
    [
        MATRIX.T,
        MATRIX[:, 1:3],
        MATRIX[:1].T,
        MATRIX[0].as_strided((1,), (7,)),
        torch.tensor(2.0),
        torch.ones(3, 0),
        torch.ones(2, 2).bfloat16(),
        torch.ones(2, 2).requires_grad_(),
    ],
)
def test_the_numbers_decide_and_not_their_strides(view: Tensor) -> None:
    assert sha256_of(view) == sha256_of(torch.tensor(view.tolist(), dtype=view.dtype))
    if view.numel():
        assert sha256_of(view) != sha256_of(view + 1)


def test_digests_of_before_still_hold() -> None:
    """Or checkpoints could not be gone on from: the digest of numbers is that of their bytes."""
    assert sha256_of(MATRIX) == hashlib.sha256(MATRIX.numpy().tobytes()).hexdigest()


def identity(**data: Observations | None) -> dict[str, object]:
    model = DeepMatrixFactorization.of_factors([torch.eye(2)])
    return identity_of_run(model, OptimizerSpec(torch.optim.SGD), FitOptions(), Measures(), data, "native")


def test_observations_without_entries_have_a_digest_too() -> None:
    weighted = Observations([], [], [], (3, 4), weights=[])
    full = Observations([0], [0], [1.0], (3, 4))
    digests = [identity(test=given)["test"] for given in (EMPTY, full, EMPTY.transpose(), None)]
    assert len(set(digests)) == 4
    assert digests[3] is None
    assert identity(test=full.split(0.0, seed=0)[1])["test"] == digests[0] == identity(test=weighted)["test"]


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_weights_are_part_of_what_a_run_is_given(name: str) -> None:
    entries = [
        Observations([0, 1], [0, 1], [1.0, 2.0], (2, 2), weights=weights)
        for weights in (None, [1.0, 1.0], [1.0, 2.0], [2.0, 1.0])
    ]
    assert len({identity(**{name: one})[name] for one in entries}) == 4
    assert identity(**{name: entries[2]})[name] == identity(**{name: entries[2].to("cpu")})[name]
