"""Fitting and predicting: the engine of `dmf_fast.completion`, its checkpoints and validation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dmf_fast import MatrixCompleter, Observations
from dmf_fast.completion import complete_matrix
from dmf_fast.estimator.parameters import completion_options
from tests.estimator.ratings import quick, ratings

X, Y = ratings()


def test_the_model_is_bit_identical_to_that_of_the_training_job_on_the_same_entries() -> None:
    completer = quick().fit(X, Y)
    rows, columns = (np.unique(X[:, side], return_inverse=True)[1] for side in (0, 1))
    observed = Observations(rows, columns, Y.astype(np.float32))
    completed = complete_matrix(observed, completion_options(completer.get_params()))
    for own, expected in zip(completer.model_.parameters(), completed.model.parameters(), strict=True):
        assert torch.equal(own, expected)
    assert completer.n_iter_ == completed.refit_steps
    assert completer.best_step_ == completed.best_step
    assert completer.candidates_["biases"] == completed.candidates[0].validation_rmse
    assert np.isfinite(completer.history_["validation_rmse"]).all()
    assert completer.noise_variance_ == completed.validation_rmse**2
    assert completer.mean_ == completed.model.mean.item()


def test_held_out_ratings_are_predicted_far_better_than_by_the_mean() -> None:
    assert quick().fit(X[:540], Y[:540]).score(X[540:], Y[540:]) > 0.75


def test_predictions_are_clipped_to_the_ratings_by_default() -> None:
    stars = np.clip(Y, 2.5, 4.5)
    clipped, free = (quick(clip=clip).fit(X, stars) for clip in (True, False))
    grid = np.stack(np.meshgrid(np.unique(X[:, 0]), np.unique(X[:, 1])), axis=-1).reshape(-1, 2)
    assert clipped.predict(grid).min() == 2.5
    assert clipped.predict(grid).max() == 4.5
    assert np.array_equal(np.clip(free.predict(grid), 2.5, 4.5), clipped.predict(grid))
    assert free.predict(grid).max() > 4.5


def test_validation_ratings_that_are_given_choose_the_step() -> None:
    completer = quick(clip=False).fit(X[:500], Y[:500], validation=(X[500:], Y[500:]))
    errors = completer.predict(X[500:]) - Y[500:]
    assert completer.noise_variance_ == pytest.approx(np.mean(errors**2), rel=1e-4)
    assert len(completer._fitted.observed) == 500


def test_validation_ratings_of_unknown_ids_are_left_out_with_a_warning() -> None:
    validation = (np.concatenate([X[500:], [[-1, 0]]]), np.append(Y[500:], 3.0))
    with pytest.warns(UserWarning, match="1 of 101 validation ratings"):
        completer = quick().fit(X[:500], Y[:500], validation=validation)
    assert (
        completer.noise_variance_
        == quick().fit(X[:500], Y[:500], validation=(X[500:], Y[500:])).noise_variance_
    )


def test_a_validation_that_is_no_pair_of_X_and_y_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`validation` must be a tuple \(X, y\)"):
        quick().fit(X, Y, validation=X)


@pytest.mark.parametrize(
    "method", ["predict", "recommend", "similar_items", "similar_users", "fold_in", "save"]
)
def test_what_is_not_fitted_says_so(method: str) -> None:
    with pytest.raises(NotFittedError):
        getattr(MatrixCompleter(), method)([(1, 2)])


def test_a_pickled_estimator_predicts_the_same_and_continues_learning() -> None:
    completer = quick().fit(X[:500], Y[:500])
    copy = pickle.loads(pickle.dumps(completer))
    for one in (completer, copy):
        one.partial_fit(X[500:], Y[500:])
    assert np.array_equal(copy.predict(X), completer.predict(X))


def test_cross_validation_scores_every_fold() -> None:
    scores = cross_val_score(quick(), X, Y, cv=3, scoring="neg_root_mean_squared_error")
    assert len(scores) == 3
    assert (scores > -Y.std()).all()


def test_a_grid_search_in_two_processes_finds_what_one_finds() -> None:
    def search(jobs: int) -> GridSearchCV:
        grid = {"weight_decay": [0.1, 1e4], "depth": [2]}
        return GridSearchCV(
            quick(n_threads=1), grid, cv=2, n_jobs=jobs, scoring="neg_root_mean_squared_error"
        ).fit(X, Y)

    alone, together = search(1), search(2)
    assert together.best_params_ == {"depth": 2, "weight_decay": 0.1}
    assert np.array_equal(together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_a_pipeline_may_prepare_the_ids() -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda pairs: pairs % 10_000), quick())
    assert np.array_equal(clone(pipeline).fit(X, Y).predict(X + 10_000), quick().fit(X, Y).predict(X))


def test_training_resumes_from_its_checkpoint_to_the_same_model(tmp_path: Path) -> None:
    whole = quick().fit(X, Y)
    parameters: dict[str, Any] = {"checkpoint": tmp_path, "checkpoint_every": 5}
    quick(**parameters).set_params(max_seconds=0.0).fit(X, Y)
    resumed = quick(**parameters, resume=True).fit(X, Y)
    for own, expected in zip(resumed.model_.parameters(), whole.model_.parameters(), strict=True):
        assert torch.equal(own, expected)
    with pytest.raises(ValueError, match="resume"):
        quick(**parameters).fit(X, Y)


def test_ctrl_c_ends_the_fit_as_elsewhere_and_leaves_what_was_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    completer = quick().fit(X, Y)
    before = completer.predict(X)
    monkeypatch.setattr("dmf_fast.completion.completed.CompletedMatrix.interrupted", True)
    with pytest.raises(KeyboardInterrupt):
        completer.fit(X[:300], Y[:300])
    assert np.array_equal(completer.predict(X), before)


def test_threads_are_those_that_were_asked_for_and_then_what_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def noting(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return complete_matrix(*arguments, **options)

    monkeypatch.setattr("dmf_fast.estimator.training.complete_matrix", noting)
    quick(n_threads=2).fit(X, Y)
    assert seen == [2]
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("center", [True, False])
def test_without_a_known_id_the_prediction_is_the_weighted_mean(center: bool) -> None:
    weights = np.where(np.arange(len(Y)) % 3, 0.2, 5.0)
    completer = quick(center=center).fit(X, Y, weights)
    assert completer.mean_ == pytest.approx(np.average(Y, weights=weights), rel=1e-5)


def test_new_ratings_far_from_constant_ones_move_no_prediction_out_of_sight() -> None:
    completer = quick(dtype="float64", clip=False).fit(X, np.full(len(X), 0.1))
    completer.fold_in([("new", X[0, 1])], [8.0])
    assert np.abs(completer.predict([("new", other) for other in X[:, 1]])).max() < 9.0
    assert completer.noise_variance_ > 1e-10
