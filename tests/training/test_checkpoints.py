"""Checkpoints: a resumed run is bit-identical to an uninterrupted one, whatever stopped it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop, OptimizerSpec
from dmf_fast.training import FitOptions, Progress, Recording, fit
from dmf_fast.training import course as course_module
from dmf_fast.training import run as run_module
from tests.assertions import Ended, assert_same
from tests.killing import assert_runs
from tests.problems import make_problem
from tests.training.conftest import AmidInterval, Clock
from tests.training.runs import PLAIN, RULES, noisy_rank_one, others, problem, run, start

pytestmark = pytest.mark.usefixtures("bounded")


def resumed(engine: str, steps: int, folder: Path, **rest: Any) -> Ended:
    return run(engine, steps, checkpoint=folder, resume=True, **rest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("descent_plan")
def test_a_resumed_native_run_is_the_uninterrupted_one(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    assert_resumes("native", name, tmp_path, dtype=dtype)


@pytest.mark.parametrize("name", PLAIN)
def test_a_resumed_run_is_the_uninterrupted_one(engine: str, tmp_path: Path, name: str) -> None:
    if engine.startswith("cuda") and name == "adaptive":
        pytest.skip("the adaptive step has no native step on a GPU")
    assert_resumes(engine, name, tmp_path)


def assert_resumes(engine: str, name: str, folder: Path, **rest: Any) -> None:
    # Without a validation set the factors at the end are those of the last step.
    for validation in (None, others()):
        given = {"optimizer": RULES[name], "validation": validation} | rest
        whole = run(engine, 60, **given)
        for stop in (1, 37):
            parts = folder / f"{validation is None}-{stop}"
            resumed(engine, stop, parts, **given)
            assert_same(resumed(engine, 60, parts, **given), whole)


def model_of(dtype: torch.dtype) -> DeepMatrixFactorization:
    model = DeepMatrixFactorization((8, 9), 3, 4, 0.3, bias=True, seed=0, dtype=dtype)
    model.mean.fill_(0.25)
    return model


OPTIMIZERS: dict[str, OptimizerSpec] = {
    "adaptive": OptimizerSpec(AdaptiveGradientDescent, {}, {"weight_decay": 0.1}),
    "group RMSprop": OptimizerSpec(GroupRMSprop, {"lr": 0.01}, {"weight_decay": 0.1}),
    "Adam": OptimizerSpec(torch.optim.Adam, {"lr": 0.01}, {"weight_decay": 0.1}),
    "AMSGrad": OptimizerSpec(torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "Nesterov": OptimizerSpec(torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "NAdam": OptimizerSpec(torch.optim.NAdam, {"lr": 0.01}, {"lr": 0.005}),
    "RMSprop": OptimizerSpec(torch.optim.RMSprop, {"lr": 0.01}),
    "Adagrad": OptimizerSpec(torch.optim.Adagrad, {"lr": 0.01}),
}


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_with_biases_resumes_with_any_optimizer(
    tmp_path: Path, name: str, dtype: torch.dtype, bound: bool
) -> None:
    def trained(steps: int, folder: Path | None) -> Ended:
        model, spec = model_of(dtype), OPTIMIZERS[name]
        optimizer = spec.make(model.factors, model.biases) if bound else spec
        result = fit(
            model, problem().observations().to(dtype=dtype), optimizer, FitOptions(steps=steps),
            recording=Recording(every=10, norms=dtype != torch.bfloat16),
            validation=others().to(dtype=dtype), checkpoint=folder, resume=folder is not None,
        )  # fmt: skip
        return [parameter.detach() for parameter in model.parameters()], result

    trained(17, tmp_path)
    assert_same(trained(40, tmp_path), trained(40, None))


@pytest.mark.parametrize("name", ["momentum", "group RMSprop", "Adam"])
def test_many_resumes_in_a_row_change_nothing(engine: str, tmp_path: Path, name: str) -> None:
    given: dict[str, Any] = {"optimizer": RULES[name], "recording": Recording(per_decade=5)}
    for stop in (0, 1, 2, 30, 30, 31, 59):
        resumed(engine, stop, tmp_path, **given)
    assert_same(resumed(engine, 60, tmp_path, **given), run(engine, 60, **given))


@pytest.mark.usefixtures("descent_plan")
def test_a_large_run_resumes(tmp_path: Path) -> None:
    large = make_problem((400, 300, 500), density=0.02, weighted=True, seed=2)
    train, ends = large.observations(), []
    for steps, folder in ((2, tmp_path), (4, tmp_path), (4, None)):
        given: dict[str, Any] = {"checkpoint": folder, "resume": folder is not None}
        ends.append(run("native", steps, factors=start(large), train=train, optimizer=RULES["Adam"], **given))
    assert_same(ends[1], ends[2])


def test_a_resume_takes_nothing_from_the_factors_that_it_is_given(engine: str, tmp_path: Path) -> None:
    resumed(engine, 20, tmp_path)
    factors = [factor.mul_(math.nan) for factor in start(problem())]
    assert_same(resumed(engine, 60, tmp_path, factors=factors), run(engine, 60))


def stop_at_20(progress: Progress) -> bool:
    return progress.step == 20


def interrupt_at_20(progress: Progress) -> None:
    if progress.step == 20:
        raise KeyboardInterrupt


@pytest.mark.parametrize("callback", [stop_at_20, interrupt_at_20])
def test_a_run_resumes_after_a_callback_or_an_interrupt_has_stopped_it(
    engine: str, tmp_path: Path, callback: Any
) -> None:
    _, first = run(engine, 60, checkpoint=tmp_path, callbacks=[callback])
    assert first.steps == 20
    assert_same(resumed(engine, 60, tmp_path), run(engine, 60))


def fail_at_40(progress: Progress) -> None:
    if progress.step == 40:
        raise LookupError("not mine")


def test_a_run_resumes_after_a_callback_has_failed(engine: str, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="not mine"):
        run(engine, 60, checkpoint=tmp_path, callbacks=[fail_at_40], checkpoint_every=7)
    assert_same(resumed(engine, 60, tmp_path, checkpoint_every=7), run(engine, 60))


def test_a_run_resumes_after_its_time_was_up(engine: str, tmp_path: Path) -> None:
    assert run(engine, 60, checkpoint=tmp_path, max_seconds=0.0)[1].stopped_because == "max_seconds"
    assert_same(resumed(engine, 60, tmp_path), run(engine, 60))


def test_a_run_resumes_after_its_time_was_up_within_an_interval(
    engine: str, tmp_path: Path, clock: Clock, amid_interval: AmidInterval
) -> None:
    recording = Recording(every=10**9)
    amid_interval(partial(setattr, clock, "now", clock.now + 2000))
    _, first = run(engine, 10**12, checkpoint=tmp_path, recording=recording, max_seconds=1000.0)
    assert (first.stopped_because, first.steps > 0) == ("max_seconds", True)
    steps = first.steps + 50
    whole = run(engine, steps, recording=recording)
    assert_same(resumed(engine, steps, tmp_path, recording=recording), whole)


def test_a_threshold_may_change_and_is_met_at_the_same_step(engine: str, tmp_path: Path) -> None:
    whole = run(engine, 100, recording=Recording(every=1))
    threshold = whole[1].history["train_loss"][45]
    expected = run(engine, 100, train_loss_threshold=threshold)
    run(engine, 20, checkpoint=tmp_path)
    for _ in range(2):
        assert_same(resumed(engine, 100, tmp_path, train_loss_threshold=threshold), expected)
    assert_same(resumed(engine, 100, tmp_path), run(engine, 100))


def test_a_finished_run_resumes_to_its_own_result(engine: str, tmp_path: Path) -> None:
    finished = run(engine, 60, checkpoint=tmp_path)
    assert_same(resumed(engine, 60, tmp_path), finished)


def test_a_resumed_run_continues_counting_its_patience(engine: str, tmp_path: Path) -> None:
    train, validation = noisy_rank_one()
    given: dict[str, Any] = {"patience": 4, "train": train, "validation": validation}

    def start_small() -> list[Tensor]:
        return [0.6 * factor for factor in start(problem())]

    whole = run(engine, 5000, factors=start_small(), **given)
    assert whole[1].stopped_because == "patience"
    assert whole[1].best_step
    resumed(engine, whole[1].steps - 15, tmp_path, factors=start_small(), **given)
    for _ in range(2):
        assert_same(resumed(engine, 5000, tmp_path, factors=start_small(), **given), whole)


def test_random_numbers_of_callbacks_resume(engine: str, tmp_path: Path) -> None:
    def drawing(into: list[float]) -> Callable[[Progress], None]:
        return lambda progress: into.append(float(torch.rand(())))

    whole: list[float] = []
    before: list[float] = []
    after: list[float] = []
    run(engine, 60, callbacks=[drawing(whole)], seed=3)
    run(engine, 30, checkpoint=tmp_path, callbacks=[drawing(before)], seed=3)
    resumed(engine, 60, tmp_path, callbacks=[drawing(after)], seed=3)
    assert before[:3] + after == whole


def more(parameters: dict[str, Tensor]) -> None:
    parameters["factors.9"] = torch.zeros(1)


def fewer(parameters: dict[str, Tensor]) -> None:
    parameters.popitem()


def of_another_shape(parameters: dict[str, Tensor]) -> None:
    parameters["factors.0"] = parameters["factors.0"][:, :-1].clone()


def of_another_type(parameters: dict[str, Tensor]) -> None:
    parameters["factors.0"] = parameters["factors.0"].to(torch.int32)


@pytest.mark.parametrize("change", [more, fewer, of_another_shape, of_another_type])
@pytest.mark.parametrize("part", ["parameters", "kept"])
def test_a_checkpoint_of_a_model_with_other_parts_than_the_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, change: Callable[[dict[str, Tensor]], None]
) -> None:
    save = run_module.save_checkpoint

    def changed(folder: Path, identity: dict[str, Any], state: dict[str, Any], *sharding: Any) -> None:
        change(state["engine"][part])
        save(folder, identity, state)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_checkpoint", changed)
        run("native", 30, checkpoint=tmp_path, validation=others())
    with pytest.raises(ValueError, match="not a checkpoint of this run, or is damaged"):
        resumed("native", 60, tmp_path, validation=others())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", 3),
        ("rows", [{"step": "one"}]),
        ("best", {"step": "one"}),
        ("seconds", -1.0),
        ("generators", {"cpu": torch.zeros(2)}),
        ("generators", {"tpu": torch.zeros(2)}),
        ("engine", {"step": 1}),
    ],
)
def test_a_checkpoint_of_other_values_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    save = run_module.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(
            run_module, "save_checkpoint", lambda at, who, state, *_: save(at, who, state | {name: value})
        )
        run("native", 30, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="not a checkpoint of this run, or is damaged"):
        resumed("native", 60, tmp_path)


def test_resume_without_a_checkpoint_starts_from_step_0(tmp_path: Path) -> None:
    assert_same(resumed("auto", 30, tmp_path / "new"), run("auto", 30))


def test_seconds_count_the_time_before_the_resume(tmp_path: Path) -> None:
    _, first = resumed("auto", 30, tmp_path)
    _, second = resumed("auto", 60, tmp_path)
    assert second.seconds > first.history["seconds"][-2]
    seconds = second.history["seconds"]
    assert seconds == sorted(seconds)


def test_checkpoints_change_no_number_and_come_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = run_module.save_checkpoint

    def noted(folder: Path, identity: Any, state: Any, *sharding: Any) -> None:
        saved.append(state["engine"]["step"])
        save(folder, identity, state)

    monkeypatch.setattr(run_module, "save_checkpoint", noted)
    whole = run("auto", 60)
    assert_same(run("auto", 60, checkpoint=tmp_path / "every 25", checkpoint_every=25), whole)
    assert saved == [25, 50, 60]
    saved.clear()
    assert_same(run("auto", 60, checkpoint=tmp_path / "none", checkpoint_every=0), whole)
    assert saved == [60]
    saved.clear()
    assert_same(run("auto", 60, checkpoint=tmp_path / "at the end"), whole)
    assert saved == [60]


@pytest.mark.parametrize("every", [1, 1000])
def test_checkpoints_by_time_change_no_row(
    engine: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"recording": Recording(every=every), "optimizer": RULES["Adam"]}
    whole = run(engine, 40, **given)
    monkeypatch.setattr(run_module, "_SECONDS_A_CHECKPOINT", 0.0)
    monkeypatch.setattr(run_module, "_TIMES_A_SAVE", 0.0)
    monkeypatch.setattr(course_module, "SECONDS_A_SLICE", 0.0)
    assert_same(run(engine, 40, checkpoint=tmp_path, **given), whole)
    (version,) = tmp_path.glob("version-*")
    assert int(version.name.removeprefix("version-")) > 1


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_diverged_run_leaves_the_last_good_checkpoint(engine: str, tmp_path: Path, momentum: float) -> None:
    given: dict[str, Any] = {"optimizer": partial(torch.optim.SGD, lr=1e3, momentum=momentum)}
    whole = run(engine, 10_000, **given)
    assert whole[1].stopped_because == "diverged"
    assert_same(run(engine, 10_000, checkpoint=tmp_path, checkpoint_every=1, **given), whole)
    assert len(list(tmp_path.glob("*-*"))) == 1
    assert_same(resumed(engine, 10_000, tmp_path, checkpoint_every=1, **given), whole)
    _, good = resumed(engine, whole[1].steps - 1, tmp_path, **given)
    assert (good.stopped_because, good.steps) == ("steps", whole[1].steps - 1)
    assert math.isfinite(good.history["train_loss"][-1])


# Runs that outlast the kills: their options, and the seconds between saves and between slices.
SEVERED: dict[str, tuple[str, str, dict[str, Any], dict[str, float]]] = {
    "every step": ("native", "Adam", {"steps": 3000, "checkpoint_every": 1}, {}),
    "by time": (
        "native", "momentum", {"steps": 1_000_000},
        {"run._SECONDS_A_CHECKPOINT": 0.01, "run._TIMES_A_SAVE": 0.0, "course.SECONDS_A_SLICE": 0.005},
    ),
    "by torch": ("torch", "group RMSprop", {"steps": 800, "checkpoint_every": 1}, {}),
}  # fmt: skip
KILLED = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from dmf_fast.training import Recording, course, run as run_module
from tests.killing import kill_again_and_again
from tests.training.runs import RULES, run
from tests.training.test_checkpoints import SEVERED

modules = {{"run": run_module, "course": course}}
for name, (engine, rule, options, seconds) in SEVERED.items():
    for constant, value in seconds.items():
        module, _, constant = constant.partition(".")
        assert hasattr(modules[module], constant)
        setattr(modules[module], constant, value)
    given = {{"optimizer": RULES[rule], "recording": Recording()}}
    run(engine, 1, **given)  # what the first step loads, the children have
    folder = Path({folder!r}) / name
    kill_again_and_again(
        lambda: run(engine, checkpoint=folder, resume=True, **options, **given),
        lambda: any(folder.glob("version-*")),
    )
"""


def test_runs_killed_at_random_instants_resume_to_the_same_numbers(tmp_path: Path) -> None:
    assert_runs(KILLED.format(folder=str(tmp_path)))
    for name, (engine, rule, options, _) in SEVERED.items():
        given: dict[str, Any] = {"optimizer": RULES[rule], "recording": Recording()}
        whole = run(engine, options["steps"], **given)
        assert_same(resumed(engine, options["steps"], tmp_path / name, **given), whole)
