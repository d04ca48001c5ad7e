"""Problems reported for other libraries that must not occur here: a test is named after each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV

from dmf_fast.evaluation import RatingErrors
from tests.estimator.ratings import quick, ratings

X, Y = ratings()


def test_ids_that_are_not_contiguous_make_no_phantom_rows() -> None:
    far = X * 1_000_003 - 5
    completer = quick().fit(far, Y)
    assert completer.model_.shape == (len(np.unique(X[:, 0])), len(np.unique(X[:, 1])))
    assert np.array_equal(completer.predict(far), quick().fit(X, Y).predict(X))
    recommended = completer.recommend(np.unique(far[:, 0]), k=30).ids
    assert set(recommended.ravel()) - {None} <= set(far[:, 1])


@pytest.mark.parametrize("given", [X.T, X.T.tolist(), X.T.astype(str)], ids=["array", "list", "text"])
def test_a_transposed_input_is_called_transposed(given: Any) -> None:
    with pytest.raises(ValueError, match=r"got the shape \(2, 600\); it may be transposed: pass X.T"):
        quick().fit(given, Y)
    with pytest.raises(ValueError, match="transposed"):
        quick().fit(X, Y).predict(given)


def test_predictions_at_rank_1100_are_those_of_float64() -> None:
    completer = quick(
        hidden=1100, depth=2, initialization="gaussian", init_scale=1.0, clip=False, steps=5,
        validation_fraction=0.0,
    ).fit(X, Y)  # fmt: skip
    model = completer.model_
    w1, w2 = (factor.detach().double().numpy() for factor in model.factors)
    assert w1.shape[0] == 1100
    dense = (
        w2 @ w1
        + model.row_bias.detach().double().numpy()[:, None]
        + model.column_bias.detach().double().numpy()
    )
    rows, columns = (
        ids.indices(X[:, side]) for side, ids in enumerate((completer.row_ids_, completer.column_ids_))
    )
    np.testing.assert_allclose(
        completer.predict(X), dense[rows, columns] + model.mean.item(), rtol=2e-5, atol=2e-5
    )


def test_training_at_rank_1100_takes_the_steps_of_float64() -> None:
    parameters: dict[str, Any] = {"hidden": 1100, "clip": False, "steps": 20, "validation_fraction": 0.0}
    single, double = (
        quick(**parameters, dtype=dtype).fit(X, Y).predict(X) for dtype in ("float32", "float64")
    )
    np.testing.assert_allclose(single, double, atol=2e-3)
    assert np.std(double - Y) < 0.8 * np.std(Y)


def test_a_setting_that_diverges_is_no_silent_nan_in_a_grid_search() -> None:
    base = quick(optimizer="sgd", coordinates="plain", depth=2, lr=1e-2)
    search = GridSearchCV(base, {"lr": [1e-2, 1e9]}, cv=2, scoring="r2", error_score=np.nan)
    with (
        pytest.warns(FitFailedWarning, match="The training diverged: its loss is not finite"),
        pytest.warns(UserWarning, match="One or more of the test scores are non-finite"),
    ):
        search.fit(X, Y)
    assert search.best_params_ == {"lr": 1e-2}
    search.set_params(error_score="raise")
    with pytest.raises(ValueError, match="The training diverged"):
        search.fit(X, Y)


def test_the_number_of_threads_does_not_change_the_result() -> None:
    pairs, values = ratings(rows=900, columns=700, count=40_000)
    one, two = (quick(hidden=64, steps=8, n_threads=threads).fit(pairs, values) for threads in (1, 2))
    for own, other in zip(one.model_.parameters(), two.model_.parameters(), strict=True):
        assert torch.equal(own, other)


def test_cold_start_ids_make_no_metric_nan() -> None:
    completer = quick().fit(X[:500], Y[:500])
    cold = [(-1, -1), (X[0, 0], "never seen"), ("never seen", X[0, 1]), tuple(X[0])]
    predictions, known = completer.predict(cold, return_known=True)
    assert known.tolist() == [False, False, False, True]
    assert np.isfinite(predictions).all()
    assert predictions[0] == completer.mean_
    assert np.isfinite(completer.score(cold, [1.0, 2.0, 3.0, 4.0]))
    assert np.isfinite(RatingErrors.of(predictions, np.ones(4), None).squared)


@pytest.mark.parametrize("kind", ["y", "sparse", "dense"])
def test_ratings_of_zero_are_ratings(kind: str) -> None:
    values = np.where(np.arange(len(Y)) % 2 == 0, 0.0, 4.0)
    pairs = np.stack([(X[:, 0] - 1000) // 7, X[:, 1] // 5], axis=1)
    if kind == "y":
        completer = quick().fit(pairs, values)
    elif kind == "sparse":
        completer = quick().fit(scipy.sparse.coo_array((values, tuple(pairs.T)), shape=(40, 30)).tocsr())
    else:
        dense = np.full((40, 30), np.nan)
        dense[tuple(pairs.T)] = values
        completer = quick().fit(dense)
    assert len(completer._fitted.observed) == 600
    assert completer.mean_ == pytest.approx(2.0)
    assert completer.predict([(-1, -1)]).item() == pytest.approx(2.0)


def test_a_resumed_training_is_no_worse_than_one_that_never_stopped(tmp_path: Path) -> None:
    whole = quick().fit(X, Y)
    quick(checkpoint=tmp_path, checkpoint_every=10, max_seconds=0.0).fit(X, Y)
    resumed = quick(checkpoint=tmp_path, checkpoint_every=10, resume=True).fit(X, Y)
    assert np.array_equal(resumed.predict(X), whole.predict(X))


@pytest.mark.parametrize(
    ("pairs", "values"),
    [
        ([(1, 2)], [3.0]),
        ([(1, 2), (1, 3), (1, 4)], [3.0, 4.0, 5.0]),
        ([(1, 2), (2, 2), (3, 2)], [3.0, 4.0, 5.0]),
        ([(1, 2), (2, 2), (1, 3)], [4.0, 4.0, 4.0]),
        ([(1, 2), (2, 2), (1, 3)], [0.0, 0.0, 0.0]),
        ([(0, item) for item in range(300)] + [(1, 0), (2, 0)], [float(item % 5) for item in range(302)]),
        ([("Zoë Müller", "a b"), ("李", "\N{CLAPPER BOARD}"), ("-", "?")], [1.0, 2.0, 3.0]),
        ([(1, 2), (2, 2), (1, 3)], [-1e30, 1e30, 5e29]),
        ([(1, 2), (2, 2), (1, 3)], [-1e-30, 1e-30, 5e-31]),
    ],
    ids=["one rating", "one user", "one item", "constant", "zero", "skew", "Unicode", "huge", "tiny"],
)
def test_ratings_at_the_edge_are_learnt_and_taken_up_later(pairs: list[Any], values: list[float]) -> None:
    completer = quick().fit(pairs, values)
    predictions = completer.predict(pairs)
    assert np.isfinite(predictions).all()
    largest = np.abs(values).max()
    assert np.abs(predictions - values).max() <= 0.8 * np.ptp(values) + 1e-6 * largest
    completer.partial_fit(pairs[:1], values[:1]).fold_in([("a newcomer", pairs[0][1])], values[:1])
    assert np.isfinite(completer.predict([("a newcomer", pairs[0][1]), pairs[0]])).all()
    assert len(completer.recommend([pairs[0][0]], k=2).ids) == 1


def not_blank(text: str) -> bool:
    return text.strip().strip("\ufeff").strip() != ""


@settings(max_examples=15)
@given(
    st.dictionaries(
        st.tuples(st.text(max_size=3).filter(not_blank), st.integers(-9, 9)),
        st.floats(-(2.0**100), 2.0**100, width=32),
        min_size=1,
        max_size=8,
    )
)
def test_any_finite_ratings_of_any_ids_give_finite_predictions(entries: dict[tuple[str, int], float]) -> None:
    pairs, values = list(entries), np.array(list(entries.values()))
    completer = quick(steps=10).fit(pairs, values)
    predictions = completer.predict([*pairs, ("?", 99)])
    assert ((predictions >= values.min()) & (predictions <= values.max())).all()


def test_importing_dmf_fast_does_not_import_scikit_learn() -> None:
    program = "import sys, dmf_fast; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
