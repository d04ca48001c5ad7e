"""Parameters: one source of truth for names and defaults, and scikit-learn's ways with them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from dmf_fast import MatrixCompleter
from dmf_fast.completion import CompletionOptions
from dmf_fast.estimator.parameters import completion_options
from tests.estimator.ratings import quick, ratings

OF_A_STUDY = {"norms", "spectrum", "balancedness"}


def options_of(completer: MatrixCompleter) -> CompletionOptions:
    return completion_options(completer.get_params())


def test_every_option_of_a_completion_is_a_parameter_with_the_same_default() -> None:
    parameters, defaults = MatrixCompleter().get_params(), CompletionOptions().values()
    assert parameters["random_state"] == defaults.pop("seed")
    for name, default in defaults.items():
        assert (name in parameters) == (name not in OF_A_STUDY), name
        assert name in OF_A_STUDY or parameters[name] == default, name


def test_the_constructor_names_its_parameters_and_refuses_others() -> None:
    signature = inspect.signature(MatrixCompleter)
    assert {name: one.default for name, one in signature.parameters.items()} == MatrixCompleter().get_params()
    with pytest.raises(TypeError, match=r"`MatrixCompleter` has no parameter 'sotps'; did you mean steps\\?"):
        MatrixCompleter(sotps=3)
    with pytest.raises(TypeError, match="positional"):
        MatrixCompleter(3)


@pytest.mark.parametrize(("name", "default"), [("steps", 5000), ("patience", 20), ("evaluate_every", 1)])
def test_the_documented_default_is_that_of_the_constructor(name: str, default: int) -> None:
    assert MatrixCompleter().get_params()[name] == default
    text = re.sub(r"\s+", " ", MatrixCompleter.__doc__ or "")
    assert re.search(rf" {name}: [^:]*(: [^:]*)?; default {default}\.", text)


def test_the_options_of_a_default_estimator_are_the_default_options() -> None:
    assert options_of(MatrixCompleter()).values() == CompletionOptions().values()


def test_parameters_that_are_set_reach_the_options() -> None:
    changed: dict[str, Any] = {"depth": 3, "weight_decay": 0.5, "patience": 2, "max_seconds": 9.0}
    changed |= {"evaluate_every": 7, "singular_values": 2, "device": "cpu"}
    options = options_of(MatrixCompleter().set_params(**changed, random_state=5))
    assert {name: options.values()[name] for name in changed} == changed
    assert options.seed == options.fit.seed == 5


def test_a_clone_has_the_parameters_and_nothing_that_was_learnt() -> None:
    fitted = quick(depth=3).fit(*ratings())
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "model_")


def test_one_random_state_gives_one_model_and_none_another_every_time() -> None:
    X, y = ratings()
    first, again = (quick(random_state=3).fit(X, y).predict(X) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, quick(random_state=None).fit(X, y).predict(X))
    drawn = [quick(random_state=np.random.RandomState(1)).fit(X, y).predict(X) for _ in range(2)]
    assert np.array_equal(*drawn)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"depth": 0}, "`depth` must be at least 1"),
        ({"optimizer": "sgdd"}, "`optimizer` must be one of lbfgs"),
        ({"dtype": "float16"}, "`dtype` must be"),
        ({"duplicates": "drop"}, "`duplicates` must be"),
        ({"device": "gpu"}, "`device` must be one of auto, cpu, cuda"),
        ({"n_threads": 0}, "`n_threads` must be at least 1"),
        ({"validation_fraction": 1.0}, "`validation_fraction` must be below 1, got 1.0"),
        ({"random_state": -1}, "`seed` must be at least 0"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_fit_by_name(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        quick(**wrong).fit(*ratings())
