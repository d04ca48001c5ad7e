"""Parameters: one source of truth for names and defaults, and scikit-learn's ways with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from dmf_fast import MatrixCompleter
from dmf_fast.completion import CompletionOptions
from tests.estimator.ratings import quick, ratings

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_option_of_the_training_is_a_parameter_with_the_same_default() -> None:
    parameters, options = MatrixCompleter().get_params(), CompletionOptions().values()
    missing = options.keys() - parameters.keys()
    for name in options.keys() & parameters.keys():
        assert parameters[name] == options[name], name
    # random_state is scikit-learn's name for a seed.
    assert missing <= {
        "seed",
        "device",
        "engine",
        "gradient_norm_threshold",
        "norms",
        "spectrum",
        "balancedness",
    }
    assert parameters["random_state"] == options["seed"]


def test_parameters_that_are_set_reach_the_options() -> None:
    changed: dict[str, Any] = {
        "depth": 3,
        "weight_decay": 0.5,
        "patience": 2,
        "batches": 1,
        "max_seconds": 9.0,
    }
    options = MatrixCompleter().set_params(**changed, random_state=5)._options().values()
    assert {name: options[name] for name in changed} == changed
    assert options["seed"] == 5


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
        ({"optimizer": "sgdd"}, "`optimizer` must be one of adaptive-gd"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64'"),
        ({"duplicates": "drop"}, "duplicates must be one of 'error'"),
        ({"n_threads": 0}, "`n_threads` must be at least 1"),
        ({"validation_fraction": 1.0}, "`validation_fraction` must be below 1"),
        ({"random_state": -1}, "`seed` must be at least 0"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_fit_by_name(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        quick(**wrong).fit(*ratings())
