"""Checkpoints: a run that goes on is bitwise the run that never stopped, whatever stopped it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.files.packing import pack, unpack
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop
from dmf_fast.training import FitOptions, FitResult, Progress, fit
from tests.killing import assert_runs

SHAPE = (9, 7)
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adaptive-gd": AdaptiveGradientDescent,
    "group-rmsprop": GroupRMSprop,
    "adam": torch.optim.Adam,
    "amsgrad": lambda *args, **options: torch.optim.Adam(*args, amsgrad=True, **options),
    "nesterov": lambda *args, **options: torch.optim.SGD(*args, momentum=0.9, nesterov=True, **options),
    "nadam": torch.optim.NAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def observations(dtype: torch.dtype = torch.float32) -> tuple[Observations, Observations]:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.ones(SHAPE).nonzero(as_tuple=True)
    values = torch.randn(len(rows), generator=generator)
    return Observations(rows, columns, values, SHAPE, dtype=dtype).split(0.3, seed=0)


def run(
    steps: int,
    folder: Path | None = None,
    *,
    optimizer: str = "group-rmsprop",
    resume: bool = False,
    callbacks: Any = (),
    lr: float = 0.01,
    hidden: int = 4,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> tuple[DeepMatrixFactorization, FitResult]:
    train, validation = observations(dtype)
    model = DeepMatrixFactorization(SHAPE, 3, hidden, 0.3, bias=True, seed=0, dtype=dtype)
    model.mean.fill_(0.25)
    groups = [{"params": [*model.factors]}, {"params": [model.row_bias, model.column_bias], "lr": lr / 2}]
    result = fit(
        model,
        train,
        OPTIMIZERS[optimizer](groups, lr=lr),
        FitOptions(steps=steps, **({"evaluate_every": 10, "record_singular_values": 2} | options)),
        validation=validation,
        callbacks=callbacks,
        checkpoint=folder,
        resume=resume,
    )
    return model, result


def assert_same(
    one: tuple[DeepMatrixFactorization, FitResult], other: tuple[DeepMatrixFactorization, FitResult]
) -> None:
    for name, tensor in one[0].state_dict().items():
        assert torch.equal(tensor, other[0].state_dict()[name]), name
    first, second = one[1], other[1]
    assert first.history.drop_columns("seconds").equals(second.history.drop_columns("seconds"))
    assert (first.steps, first.best_step, first.stopped_because) == (
        second.steps,
        second.best_step,
        second.stopped_because,
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop", [1, 20, 37])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, optimizer: str, stop: int) -> None:
    run(stop, tmp_path, optimizer=optimizer)
    resumed = run(60, tmp_path, optimizer=optimizer, resume=True)
    assert_same(resumed, run(60, optimizer=optimizer))


def stop_at_20(progress: Progress) -> bool:
    return progress.step == 20


def interrupt_at_20(progress: Progress) -> None:
    if progress.step == 20:
        raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["nadam", "adaptive-gd", "group-rmsprop"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_an_optimizer_keeps_in_another_dtype_than_its_parameters_goes_on_bitwise(
    tmp_path: Path, optimizer: str, dtype: torch.dtype
) -> None:
    uninterrupted = run(40, optimizer=optimizer, dtype=dtype, record_singular_values=0)
    run(17, tmp_path, optimizer=optimizer, dtype=dtype, record_singular_values=0)
    resumed = run(40, tmp_path, optimizer=optimizer, dtype=dtype, record_singular_values=0, resume=True)
    assert_same(resumed, uninterrupted)


@pytest.mark.parametrize("callback", [stop_at_20, interrupt_at_20])
def test_a_run_goes_on_after_a_callback_or_an_interrupt_has_stopped_it(tmp_path: Path, callback: Any) -> None:
    _, first = run(60, tmp_path, callbacks=[callback])
    assert first.steps == 20
    assert_same(run(60, tmp_path, resume=True), run(60))


def test_a_run_goes_on_after_its_time_was_up(tmp_path: Path) -> None:
    assert run(60, tmp_path, max_seconds=0.0)[1].stopped_because == "max_seconds"
    assert_same(run(60, tmp_path, resume=True), run(60))


def test_a_finished_run_resumes_to_its_own_result(tmp_path: Path) -> None:
    finished = run(60, tmp_path, patience=2)
    assert_same(run(60, tmp_path, patience=2, resume=True), finished)


def test_patience_goes_on_counting(tmp_path: Path) -> None:
    whole = run(5000, patience=4, lr=0.05)
    assert whole[1].stopped_because == "patience"
    run(whole[1].steps - 15, tmp_path, patience=4, lr=0.05)
    assert_same(run(5000, tmp_path, patience=4, lr=0.05, resume=True), whole)


def test_what_callbacks_draw_goes_on_too(tmp_path: Path) -> None:
    def drawing(into: list[float]) -> Callable[[Progress], None]:
        return lambda progress: into.append(float(torch.rand(())))

    whole, before, after = [], [], []  # type: ignore[var-annotated]
    run(60, callbacks=[drawing(whole)], seed=3)
    run(30, tmp_path, callbacks=[drawing(before)], seed=3)
    run(60, tmp_path, callbacks=[drawing(after)], seed=3, resume=True)
    assert before[:3] + after == whole


def test_resume_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    assert_same(run(30, tmp_path / "new", resume=True), run(30))


def test_seconds_count_the_time_before_the_resume(tmp_path: Path) -> None:
    _, first = run(30, tmp_path)
    _, second = run(60, tmp_path, resume=True)
    assert second.seconds > first.history["seconds"].to_pylist()[-2]
    seconds = second.history["seconds"].to_pylist()
    assert seconds == sorted(seconds)


def test_a_diverged_run_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    _, result = run(10_000, tmp_path, optimizer="nesterov", lr=50.0, checkpoint_every=1)
    assert result.stopped_because == "diverged"
    _, again = run(10_000, tmp_path, optimizer="nesterov", lr=50.0, checkpoint_every=1, resume=True)
    assert (again.stopped_because, again.steps) == ("diverged", result.steps)


KILLED = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.killing import kill_again_and_again
from tests.files.test_checkpoint import run

run(1)  # what the first step loads, the children have
folder = Path({folder!r})
kill_again_and_again(
    lambda: run(800, folder, resume=True, checkpoint_every=1), lambda: any(folder.glob("version-*"))
)
"""


def test_a_run_killed_at_random_instants_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    assert_runs(KILLED.format(folder=str(tmp_path / "kept")))
    assert_same(run(800, tmp_path / "kept", resume=True), run(800))


def test_what_a_killed_save_leaves_behind_is_ignored_and_cleared_away(tmp_path: Path) -> None:
    run(20, tmp_path)
    (newest,) = tmp_path.glob("version-*")
    number = int(newest.name.removeprefix("version-"))
    for leftover in (f"unfinished-{number + 1}", f"version-{number - 1}"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "state.json").write_text("{")
    assert_same(run(60, tmp_path, resume=True), run(60))
    assert len(list(tmp_path.glob("*-*"))) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, Path.unlink])
def test_a_damaged_checkpoint_is_called_damaged(tmp_path: Path, name: str, damage: Any) -> None:
    run(20, tmp_path)
    damage(next(tmp_path.glob("version-*")) / name)
    with pytest.raises(ValueError, match="is damaged"):
        run(60, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": "adam"}, "optimizer was GroupRMSprop there and is Adam"),
        ({"lr": 0.02}, r"param_groups\[0\].lr was 0.01"),
        ({"hidden": 5}, r"model.factors.0 was torch.float32 \(4, 7\)"),
        ({"evaluate_every": 5}, "options.evaluate_every was 10 there and is 5"),
        ({"reduction": "sum"}, "options.reduction"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    run(20, tmp_path)
    with pytest.raises(ValueError, match=words):
        run(60, tmp_path, resume=True, **change)


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(20, tmp_path)
    train, validation = observations()
    changed = train.values.clone()
    changed[3] += 1e-6
    monkeypatch.setitem(globals(), "observations", lambda _: (train.with_values(changed), validation))
    with pytest.raises(ValueError, match="train was"):
        run(60, tmp_path, resume=True)


def test_a_run_is_not_written_over_without_resume(tmp_path: Path) -> None:
    run(20, tmp_path)
    with pytest.raises(ValueError, match="holds a checkpoint already"):
        run(60, tmp_path)


def test_a_file_is_not_a_checkpoint_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder"):
        run(20, tmp_path / "file")


def test_packing_keeps_types_and_bits() -> None:
    state = {
        0: {"step": 3, "root": torch.tensor(1 / 3, dtype=torch.float64)},
        "betas": (0.9, 0.999),
        "nested": [None, True, {"empty": {}}, [torch.arange(4).reshape(2, 2).T]],
        "inf": float("inf"),
    }
    tensors: dict[str, torch.Tensor] = {}
    again = unpack(pack(state, "state", tensors), tensors)
    assert torch.equal(again[0].pop("root"), state[0].pop("root"))  # type: ignore[attr-defined, union-attr]
    assert torch.equal(again["nested"].pop()[0], state["nested"].pop()[0])  # type: ignore[attr-defined, union-attr]
    assert again == state
    assert isinstance(again["betas"], tuple)


def test_what_cannot_be_packed_is_named() -> None:
    with pytest.raises(TypeError, match=r"optimizer\.state holds a set"):
        pack({"state": {1, 2}}, "optimizer", {})
