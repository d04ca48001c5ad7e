"""Options from files and ``--set``: all of them, by their precedence, and never silently ignored."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Context
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

from dmf_fast.cli.app import app
from dmf_fast.completion import FAST, OPTIMIZERS
from tests.cli.runs import QUICK, Run

ROOT = Path(__file__).parents[2]


def shown(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return dict(yaml.safe_load(result.stdout))


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    text = " ".join(result.stderr.replace("│", "").split())
    for word in words:
        assert word in text, result.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("options.yaml", "hidden: 7\nweight-decay: 1e-3\nbias: false\ndepth: [2, 3]\n"),
        ("options.toml", 'hidden = 7\nweight_decay = 0.001\nbias = false\ndepth = "2,3"\n'),
    ],
)
def test_options_of_a_file_are_used(dmf_fast: Run, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    options = shown(dmf_fast("complete", "r.csv", "--config", tmp_path / name, "--show-config"))

    assert options["ratings"] == "r.csv"
    assert (options["hidden"], options["weight_decay"], options["bias"]) == (7, 0.001, False)
    assert options["depth"] == "2,3"


def test_an_option_overrides_set_and_that_overrides_the_file(dmf_fast: Run, tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("steps: 1\nhidden: 1\nseed: 1\n")
    sets = ("--set", "steps=2", "--set", "hidden=2")
    for given_options in ((*sets, "--config", file), ("--config", file, *sets)):
        options = shown(dmf_fast("complete", "r.csv", *given_options, "--steps", 3, "--show-config"))

        assert (options["steps"], options["hidden"], options["seed"]) == (3, 2, 1)


def test_the_fast_preset_changes_defaults_and_what_is_given_overrides_it(dmf_fast: Run) -> None:
    ratings = ["complete", "ratings.csv", "--show-config"]
    best, fast = shown(dmf_fast(*ratings)), shown(dmf_fast(*ratings, "--preset", "fast"))
    changed = {key for key in best if best[key] != fast[key]}
    assert changed == {"preset", "depth", "hidden", "optimizer"}
    assert {key: fast[key] for key in ("depth", "hidden", "optimizer")} == {
        "depth": str(FAST.depth),
        "hidden": FAST.hidden,
        "optimizer": FAST.optimizer,
    }
    assert shown(dmf_fast(*ratings, "--preset", "fast", "--hidden", "7"))["hidden"] == 7
    assert_refused(dmf_fast("complete", "--preset", "fast"), "--preset fast needs RATINGS")


def test_every_option_can_be_shown_and_so_be_given_in_a_file(dmf_fast: Run) -> None:
    command = app.get_command(Context(app), "complete")
    assert command is not None
    of_one_call = {"overwrite", "resume", "json", "quiet", "show_config", "config", "assignments"}

    options = shown(dmf_fast("complete", "--show-config"))

    assert set(options) == {parameter.name for parameter in command.params} - of_one_call


@pytest.mark.parametrize("preset", ["best", "fast"])
def test_the_configuration_shown_without_ratings_is_valid_for_ratings(dmf_fast: Run, preset: str) -> None:
    template, of_ratings = (
        shown(dmf_fast("complete", *ratings, "--show-config", "--preset", preset))
        for ratings in ([], ["r.csv"])
    )

    assert template == of_ratings | {"ratings": None}
    assert template["bias"]


@settings(max_examples=25)
@given(
    st.fixed_dictionaries(
        {
            "lr": st.floats(1e-300, 1e300),
            "initialization": st.just("gaussian"),  # which has a scale
            "depth": st.just("2"),
        },
        optional={
            "hidden": st.integers(1, 10**6),
            "weight_decay": st.floats(0, 1e300),
            "init_scale": st.floats(1e-300, 1e300),
            "degree_exponent": st.floats(0, 1),
            "bias": st.booleans(),
            "optimizer": st.sampled_from(sorted(OPTIMIZERS)),
            "columns": st.text("aäß:#'\"- ,{}[]0", min_size=1).filter(lambda text: text.strip() == text),
            "seed": st.integers(0, 2**31),
            "out": st.sampled_from(["no", "1", "null", "a b", "x: y", "ü"]),
        },
    )
)
def test_the_shown_configuration_can_be_read_back(
    dmf_fast: Run, tmp_path: Path, options: dict[str, Any]
) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(yaml.safe_dump(options))
    result = dmf_fast("complete", "r.csv", "--config", first, "--show-config")
    second.write_text(result.stdout)

    again = dmf_fast("complete", "--config", second, "--show-config")

    resolved = shown(result)
    assert {name: resolved[name] for name in options} == options
    assert shown(again) == resolved


def test_the_config_in_a_trained_folder_trains_the_same_model(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    options = ("--weight-decay", "0.3", "--depth", "3", "--seed", "5")
    assert dmf_fast("complete", ratings_file, "--out", first, *QUICK, *options).exit_code == 0

    result = dmf_fast("complete", "--config", first / "config.yaml", "--out", again, "--quiet")

    assert result.exit_code == 0, result.stderr
    model = "model-depth-3.safetensors"
    assert (again / model).read_bytes() == (first / model).read_bytes()


def test_the_example_of_the_documentation_is_understood(dmf_fast: Run) -> None:
    options = shown(
        dmf_fast(
            "complete", "r.csv", "--test", "t.csv", "--config", ROOT / "examples/complete.yaml", "--out", "m",
            "--show-config",
        )
    )  # fmt: skip

    assert (options["depth"], options["split"], options["checkpoint_every"]) == ("2,3", "time", 20)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("weight_decey", ("has no option 'weight_decey'", "did you mean weight_decay")),
        ("xyzzy", ("has no option 'xyzzy'", "--help")),
        ("config", ("has no option 'config'",)),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_names(
    dmf_fast: Run, tmp_path: Path, key: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(f"{key}: 1\n")

    assert_refused(dmf_fast("complete", "--config", file), "options.yaml", *words)
    refused = dmf_fast("complete", "--set", f"{key}=1")
    assert_refused(refused, *words)
    assert refused.stderr.startswith("Error: --set: complete has no option ")


def test_a_mistyped_command_is_refused_with_the_nearest_one(dmf_fast: Run) -> None:
    assert_refused(dmf_fast("recomend"), "There is no command 'recomend'; did you mean recommend?")
    assert_refused(dmf_fast("xyzzy"), "dmf-fast --help lists them")


def test_the_help_of_an_option_says_whether_words_replace_a_number(dmf_fast: Run) -> None:
    text = " ".join(dmf_fast("complete", "--help").stdout.split())

    assert "A number or auto. [default: 64" in text
    assert "One of random, time." in text
    assert "One of auto." not in text


@pytest.mark.parametrize(
    "given_option",
    ["steps: many", "steps: -1", "steps: 2.5", "steps: yes", "bias: perhaps", 'out: "a\\0b"'],
)
def test_a_bad_value_of_a_file_is_refused_as_one_of_the_command_line(
    dmf_fast: Run, tmp_path: Path, given_option: str
) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(given_option)

    assert_refused(dmf_fast("complete", "--config", file), f"--{given_option.split(':')[0]}")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("options.ini", "steps = 1", ".yaml, .yml or .toml"),
        ("options.yaml", "steps: [", "cannot be read"),
        ("options.yaml", "- steps", "'steps: 100'"),
        ("options.yaml", "steps: {a: 1}", "must be one value"),
        ("options.toml", "steps = ", "cannot be read"),
        ("options.yaml", None, "No such file"),
        ("options.yaml", "steps: 1\nseed: 2\nsteps: 3\n", "'steps' occurs twice"),
        ("options.yaml", "weight-decay: 1\nweight_decay: 2\n", "weight_decay occurs twice"),
        ("options.toml", "weight-decay = 1\nweight_decay = 2\n", "weight_decay occurs twice"),
        ("options.toml", "steps = 1\nsteps = 2\n", "cannot be read"),
        ("options.yaml", "steps: &many 1\nseed: 2\n", "anchor or alias 'many'"),
        ("options.yaml", "steps: *many\n", "anchor or alias 'many'"),
        ("options.yaml", "steps: [1]\n", "must be one value, got a list"),
        ("options.yaml", "depth: [[2], 3]\n", "must be one value"),
        ("options.yaml", "depth: [2, null]\n", "must be one value"),
        ("options.yaml", "steps: !!binary aGVsbG8=\n", "must be one value, got a bytes"),
        ("options.yaml", "? [a]\n: 1\n", "cannot be read"),
        ("options.yaml", "[" * 100_000, "cannot be read"),
        ("options.toml", "a = " + "[" * 100_000, "cannot be read"),
        ("options.yaml", "#" * 100_001, "more than 100,000 bytes"),
        ("options.toml", "steps = 0x" + "f" * 10_000, "must be shorter"),
        ("options.yaml", "steps: 0x" + "f" * 10_000, "must be shorter"),
        ("options.yaml", "steps: " + "9" * 10_000, "cannot be read"),
        ("options.yaml", "a: !!python/object/apply:os.system ['true']\n", "cannot be read"),
        ("options.yaml", "- 1\n" * 1000, "got a list"),
        ("options.yaml", "x: 1\n---\ny: 2\n", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_options_is_refused(
    dmf_fast: Run, tmp_path: Path, name: str, content: str | None, word: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)

    assert_refused(dmf_fast("complete", "--config", tmp_path / name), name, word)


def test_set_without_a_value_or_twice_is_refused(dmf_fast: Run) -> None:
    assert_refused(dmf_fast("complete", "--set", "steps"), "KEY=VALUE")
    assert_refused(dmf_fast("complete", "--set", "steps=1", "--set", "steps=2"), "steps is given twice")
    twice = ("--set", "weight-decay=1", "--set", "weight_decay=2")
    assert_refused(dmf_fast("complete", *twice), "weight_decay occurs twice")


def test_a_million_items_of_a_small_file_are_refused_at_once(dmf_fast: Run, tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]" for before, now in pairwise("abcdefghi")]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    result = dmf_fast("complete", "--config", tmp_path / "bomb.yaml")
    assert_refused(result, "anchor or alias 'a'")
    assert len(result.stderr) < 1000


def test_other_commands_take_their_options_from_files_too(
    dmf_fast: Run, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "options.toml").write_text(f'folder = "{trained}"\nuser = 110\ncount = 3\njson = true\n')

    result = dmf_fast("recommend", "--config", tmp_path / "options.toml")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.count('"item"') == 3
