"""Observations: what comes back, what is shared, what never changes."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import threading
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations, completion_loss
from dmf_fast.observations.layout import Layout, caller_positions

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def random_observations(
    seed: int = 0, shape: tuple[int, int] = (30, 20), nnz: int = 150, **options: Any
) -> tuple[Observations, dict[str, Any]]:
    """Observations, and what they were made of."""
    random = np.random.default_rng(seed)
    cells = random.choice(shape[0] * shape[1], size=nnz, replace=False)
    made_of = {"rows": cells // shape[1], "columns": cells % shape[1], "values": random.normal(size=nnz)}
    made_of["weights"] = random.random(nnz)
    return Observations(**made_of, shape=shape, **options), made_of


def assert_same_entries(got: Observations, expected: Observations) -> None:
    assert got.shape == expected.shape
    assert torch.equal(got.rows, expected.rows)
    assert torch.equal(got.columns, expected.columns)
    assert got.dtype == expected.dtype
    assert torch.equal(got.values, expected.values)
    assert (got.weights is None) == (expected.weights is None)
    if got.weights is not None and expected.weights is not None:
        assert torch.equal(got.weights, expected.weights)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("built", [False, True], ids=["before the layout", "after the layout"])
def test_entries_come_back_as_given(dtype: torch.dtype, built: bool) -> None:
    observations, made_of = random_observations(dtype=dtype)
    if built:
        observations.layout()
    assert observations.rows.dtype == torch.int64
    assert observations.rows.tolist() == made_of["rows"].tolist()
    assert observations.columns.tolist() == made_of["columns"].tolist()
    assert torch.equal(observations.values, torch.from_numpy(made_of["values"]).to(dtype))
    assert observations.weights is not None
    assert torch.equal(observations.weights, torch.from_numpy(made_of["weights"]).to(dtype))


def test_sizes_and_facts() -> None:
    observations = Observations([0, 1, 1], [2, 0, 1], [5, 3, 4], shape=(2, 3), weights=[1.0, 0.5, 0.0])
    assert (observations.shape, observations.nnz, len(observations)) == ((2, 3), 3, 3)
    assert observations.density == 0.5
    assert observations.device == torch.device("cpu")
    assert observations.total_weight == 1.5
    assert "shape=(2, 3), nnz=3" in repr(observations)
    assert "weighted" in repr(observations)
    assert "\n" not in repr(observations)
    assert "weighted" not in repr(observations.with_values([1, 2, 3]))


def test_the_total_weight_is_the_count_without_weights() -> None:
    assert Observations([0, 1], [0, 0], [1.0, 2.0]).total_weight == 2.0


def test_the_shape_is_inferred_from_the_entries() -> None:
    assert Observations([0, 4], [6, 1], [1.0, 2.0]).shape == (5, 7)


def test_dtype_follows_the_values() -> None:
    numbers = np.array([1.0, 2.0])
    assert Observations([0, 1], [0, 0], numbers).dtype == torch.float64
    assert Observations([0, 1], [0, 0], numbers.astype(np.float16)).dtype == torch.float16
    assert Observations([0, 1], [0, 0], torch.tensor([1, 2], dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert Observations([0, 1], [0, 0], np.array([1, 2])).dtype == torch.float32
    assert Observations([0, 1], [0, 0], [1.0, 2.0]).dtype == torch.get_default_dtype()
    assert Observations([0, 1], [0, 0], numbers, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, ">i4"]
)
def test_indices_of_any_integer_dtype(dtype: Any) -> None:
    rows, columns = np.array([3, 0], dtype=dtype), np.array([1, 2], dtype=dtype)
    observations = Observations(rows, columns, [1.0, 2.0])
    assert observations.rows.tolist() == [3, 0]
    assert observations.columns.tolist() == [1, 2]


def test_strided_read_only_and_differentiable_arguments_are_fine() -> None:
    rows = np.arange(8)[::-2]
    columns = np.broadcast_to(np.int64(3), 4)
    values = torch.arange(8.0, requires_grad=True)[::2]
    observations = Observations(rows, columns, values)
    assert observations.rows.tolist() == [7, 5, 3, 1]
    assert observations.columns.tolist() == [3, 3, 3, 3]
    assert observations.values.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert not observations.values.requires_grad
    assert Observations(rows, columns, np.arange(8.0)[::-2]).values.tolist() == [7.0, 5.0, 3.0, 1.0]


@pytest.mark.parametrize("built", [False, True], ids=["before the layout", "after the layout"])
def test_nothing_that_goes_in_or_out_changes_the_object(built: bool) -> None:
    rows, columns = torch.tensor([0, 1]), torch.tensor([1, 0])
    values, weights = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    observations = Observations(rows, columns, values, weights=weights)
    if built:
        observations.layout()
    given_weights = observations.weights
    assert given_weights is not None
    for tensor in (rows, columns, values, weights, observations.rows, observations.columns):
        tensor.fill_(0)
    observations.values.fill_(0)
    given_weights.fill_(0)
    assert_same_entries(observations, Observations([0, 1], [1, 0], [1.0, 2.0], weights=[3.0, 4.0]))


@pytest.mark.parametrize("name", ["rows", "values", "shape", "dtype", "anything"])
def test_attributes_cannot_be_set(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Observations([0], [0], [1.0]), name, None)


def test_the_layout_holds_values_and_weights_in_tile_order() -> None:
    observations, made_of = random_observations(shape=(900, 700), nnz=5000)
    layout = observations.layout()
    positions = caller_positions(layout.buffer, observations.nnz).numpy()
    assert layout.weights is not None
    np.testing.assert_array_equal(layout.values.numpy(), made_of["values"][positions])
    np.testing.assert_array_equal(layout.weights.numpy(), made_of["weights"][positions])
    assert observations.layout() is layout


def test_other_values_and_dtypes_share_the_pattern_whoever_builds_first() -> None:
    observations, made_of = random_observations()
    others = [observations.to(dtype=torch.float32), observations.with_values(made_of["values"] + 1)]
    buffer = others[0].layout().buffer
    assert others[1].layout().buffer is buffer
    assert observations.layout().buffer is buffer
    assert others[1].values.tolist() == (made_of["values"] + 1).tolist()
    assert others[1].weights is None
    assert others[0].layout().values.dtype == torch.float32


def test_the_layout_is_built_once_by_many_threads() -> None:
    observations, made_of = random_observations(shape=(500, 500), nnz=20_000)
    start = threading.Barrier(8)
    layouts: list[Layout] = []
    values: list[Tensor] = []

    def build_and_read() -> None:
        start.wait()
        layouts.append(observations.layout())
        values.append(observations.values)

    threads = [threading.Thread(target=build_and_read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(layout) for layout in layouts}) == 1
    assert all(tensor.tolist() == made_of["values"].tolist() for tensor in values)


def test_to_returns_itself_where_nothing_changes() -> None:
    observations, _ = random_observations()
    assert observations.to("cpu", torch.float64) is observations
    assert observations.to() is observations


def test_to_another_dtype_rounds_the_numbers() -> None:
    observations, made_of = random_observations()
    halves = observations.to(dtype=torch.bfloat16)
    assert torch.equal(halves.values, torch.from_numpy(made_of["values"]).bfloat16())
    assert observations.dtype == torch.float64


def test_a_device_without_kernels_has_no_layout_and_says_so() -> None:
    observations, _ = random_observations()
    moved = observations.to("meta")
    assert moved.device == torch.device("meta")
    with pytest.raises(ValueError, match=r"got meta: only cpu and cuda have kernels; or use .*cpu"):
        moved.layout()


def test_with_values_keeps_dtype_and_order() -> None:
    observations, _ = random_observations(dtype=torch.float32)
    observations.layout()
    numbers = np.arange(observations.nnz)
    other = observations.with_values(numbers, weights=numbers)
    other.layout()
    assert other.dtype == torch.float32
    assert other.values.tolist() == numbers.tolist()
    assert other.weights is not None
    assert other.weights.tolist() == numbers.tolist()


@pytest.mark.parametrize("built", [False, True], ids=["before the layout", "after the layout"])
def test_transpose_swaps_rows_and_columns(built: bool) -> None:
    observations, made_of = random_observations()
    if built:
        observations.layout()
    turned = observations.transpose()
    expected = Observations(
        made_of["columns"], made_of["rows"], made_of["values"], (20, 30), weights=made_of["weights"]
    )
    assert_same_entries(turned, expected)
    turned.layout()
    assert_same_entries(turned, expected)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pickled_and_copied_observations_are_the_same(duplicate: Any, dtype: torch.dtype) -> None:
    observations, _ = random_observations(dtype=dtype)
    assert_same_entries(duplicate(observations), observations)
    observations.layout()
    assert_same_entries(duplicate(observations), observations)


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 2), (3, 2)])
def test_no_entries_are_legal_with_a_shape(shape: tuple[int, int]) -> None:
    observations = Observations([], [], [], shape)
    train, test = observations.split(0.5, seed=0)
    for each in (observations, observations.transpose(), train, test):
        assert each.layout().values.numel() == 0
        assert each.rows.tolist() == each.values.tolist() == []
        assert each.density == 0


def test_a_compiled_loss_builds_the_layout_that_it_needs() -> None:
    observations, _ = random_observations()
    factors = [torch.ones(3, 20, dtype=torch.float64), torch.ones(30, 3, dtype=torch.float64)]

    def loss(factors: list[Tensor]) -> Tensor:
        return completion_loss(factors, observations)

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    got = [compiled(factors).item() for _ in range(2)]
    assert got == [completion_loss(factors, observations).item()] * 2


def test_observations_go_to_a_process_that_begins_anew() -> None:
    observations, _ = random_observations(dtype=torch.bfloat16)
    assert_same_entries(ForkingPickler.loads(ForkingPickler.dumps(observations)), observations)
    process = multiprocessing.get_context("spawn").Process(target=Observations.layout, args=(observations,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("weighted", [False, True])
def test_torch_loads_what_it_has_saved_without_being_told_to_trust_it(weighted: bool) -> None:
    observations, _ = random_observations()
    observations = observations if weighted else observations.with_values(observations.values)
    file = io.BytesIO()
    torch.save({"train": observations}, file)
    file.seek(0)
    assert_same_entries(torch.load(file, weights_only=True)["train"], observations)
