"""The estimator."""

from __future__ import annotations

import os
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from dmf_fast.completion.job import device_of
from dmf_fast.data import DataError, IdMap
from dmf_fast.estimator import updates
from dmf_fast.estimator.entries import fold_in_entries, known_entries, training_entries, validation_entries
from dmf_fast.estimator.fitted import FittedModel
from dmf_fast.estimator.folder import load_fitted, save_fitted
from dmf_fast.estimator.inputs import as_frame, read_pairs, split_ratings
from dmf_fast.estimator.parameters import completion_options, with_parameters
from dmf_fast.estimator.ranking import Ranking, recommend_ids, similar_ids
from dmf_fast.estimator.training import train
from dmf_fast.files.reading import reading
from dmf_fast.nn import DeepMatrixFactorization


@with_parameters
class MatrixCompleter(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Completes a matrix of ratings by deep matrix factorization, in scikit-learn's conventions.

    ``X`` has shape ``(n, 2)``, a row id (user) and a column id (item) per rating, and ``y`` holds the
    ratings, so that `cross_val_score` and `GridSearchCV` work. Ids may be of any hashable type and need not
    be contiguous. Ids that are all integers or all text are compared as text: 7, 7.0 and "7" are the same
    id. Training is that of ``dmf-fast complete``: early stopping on a part of the ratings, then a refit on
    all of them.

    After Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019).

    Args:
        clip: whether predictions are clipped to the range of the ratings.
        dtype: dtype of the model, ``"float32"`` or ``"float64"``.
        duplicates: what to do with a pair that occurs more than once in a call, as in
            `dmf_fast.Observations`: ``"error"``, ``"first"``, ``"last"``, ``"mean"`` or ``"sum"``.
        keep_ratings: whether to keep the ratings, about 15 bytes each. `partial_fit` needs them, and so does
            `recommend` with ``exclude_seen``.
        checkpoint: folder for the state of the training, see `dmf_fast.completion.complete_matrix`.
            Estimators that train at the same time, as in a grid search, need different folders or None.
        resume: whether `fit` resumes from ``checkpoint``, bit-identically.
        n_threads: number of PyTorch threads while `fit` runs; None leaves it unchanged. At depth 2 the model
            is bit-identical for any number.
        random_state: seed of the initialization and of the validation split: an integer, None for a different
            one each time, or a NumPy ``RandomState``.
        verbose: whether to show a progress bar on standard error.

    Attributes:
        model_: the trained `dmf_fast.DeepMatrixFactorization` by row and column index, on the CPU.
        row_ids_: `dmf_fast.data.IdMap` from row ids to row indices and back.
        column_ids_: the same for columns.
        mean_: the mean of the training ratings, predicted where neither id is known.
        noise_variance_: mean squared error on the validation ratings, or on the training ratings if there
            are no validation ratings.
        n_iter_: number of steps of the final training.
        best_step_: the step with the best validation error; None without validation ratings.
        candidates_: validation RMSE of all models that were compared, by name.
        chosen_: the name of the chosen one.
        history_: `dmf_fast.training.History` with a row for every evaluation of the search;
            ``history_.plot()`` plots it.
        n_features_in_: always 2, the row id and the column id.
        feature_names_in_: names of the two columns, if ``X`` was a data frame.

    Example:
        >>> X = [("ann", "Alien"), ("ann", "Brazil"), ("bob", "Alien"), ("bob", "Cube"), ("eve", "Cube")]
        >>> completer = MatrixCompleter(hidden=2, steps=50).fit(X, [5.0, 3.0, 4.0, 2.0, 1.0])
        >>> bool(completer.predict([("eve", "Alien")])[0] > completer.predict([("eve", "Cube")])[0])
        True

    """

    _fitted: FittedModel

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, validation: Any = None
    ) -> MatrixCompleter:
        """Train on ratings.

        Args:
            X: row and column ids, shape ``(n, 2)``: an array, a list, or a data frame with two columns.
                Without ``y``: a data frame with a third column of ratings; a SciPy sparse matrix of ratings,
                whose stored zeros are ratings; or an array of ratings, shape ``(m, n)``, with NaN for missing
                ones. The ids of a matrix are its indices. An array that could also hold ids and ratings is
                an error: one without NaN that has 2 to 4 columns or 3 or 4 rows, or one with 3 or 4 columns
                and no NaN in the first two.
            y: ratings, shape ``(n,)``, real numbers.
            sample_weight: nonnegative weights of the ratings, shape ``(n,)``. A rating of weight 2 counts
                twice, ratings of weight 0 are ignored.
            validation: ``(X, y)`` or a data frame with three columns: ratings that choose the best step,
                instead of a random part of the training ratings. Ratings with an id that ``X`` lacks are
                ignored, with a warning.

        Raises:
            ValueError: something is missing, not finite, of the wrong shape, or out of range; a pair occurs
                twice; the training diverged.
            TypeError: an id is not hashable, or something that must be a number is not.

        """
        options = completion_options(self.get_params(deep=False))
        X, y = split_ratings(X, y)
        observed, ids = training_entries(X, y, sample_weight, self.duplicates, self.dtype)
        self._check_features(X if y is not None else np.empty((0, 2)), reset=True)
        checked = None
        if validation is not None:
            checked = validation_entries(validation, observed, ids, self.duplicates)
        fitted, completed = train(
            observed,
            ids,
            options,
            validation=checked,
            clip=bool(self.clip),
            n_threads=self.n_threads,
            checkpoint=None if self.checkpoint is None else Path(self.checkpoint),
            resume=bool(self.resume),
        )
        self._fitted = fitted if self.keep_ratings else replace(fitted, observed=None)
        self.n_iter_ = completed.refit_steps or completed.steps
        self.best_step_ = completed.best_step
        self.history_ = completed.history
        self.chosen_ = completed.chosen.name
        self.candidates_ = {one.name: one.validation_rmse for one in completed.candidates}
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MatrixCompleter:
        """Update the model with new ratings of known ids, without training again; the first call is `fit`.

        A new rating of a rated pair replaces the old one. The affected rows change first, then the affected
        columns: to the mean of a Gaussian posterior whose prior is the distribution of the trained rows or
        columns, and whose noise variance is ``noise_variance_``. Thus a new rating changes a row less, the
        more ratings the row has; many small calls give approximately the result of one call; and a repeated
        rating changes nothing. The time is linear in the number of kept ratings. If a large part of the
        ratings is new, `fit` gives a better model.

        Args:
            X: row and column ids as in `fit`, shape ``(n, 2)``, but not a matrix.
            y: ratings, shape ``(n,)``.
            sample_weight: weights, shape ``(n,)``.

        Raises:
            ValueError: an id is unknown, or the ratings were not kept; and as in `fit`.
            TypeError: as in `fit`.

        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, sample_weight)
        if self._fitted.observed is None:
            raise ValueError(
                "partial_fit needs the training ratings, which this estimator lacks; fit it with "
                "keep_ratings=True (a folder of dmf-fast complete holds no ratings)"
            )
        X, y = split_ratings(X, y)
        new = known_entries(X, y, sample_weight, self._fitted.ids, self.duplicates)
        self._check_features(X)
        self._fitted = updates.partial_fit(self._fitted, new)
        return self

    def fold_in(self, X: Any, y: Any = None, sample_weight: Any = None, *, axis: int = 0) -> MatrixCompleter:
        """Add new rows, given their ratings of known columns, without training again.

        The vector of each row is found by ridge regression on the fixed column factors. It is shrunk towards
        the mean of the trained rows, less so in directions in which these vary more. Nothing else changes.
        Afterwards the estimator makes predictions and recommendations for the new rows, and their ratings are
        kept like the others.

        Args:
            X: as in `fit`, shape ``(n, 2)``, but not a matrix: a new row id and a known column id per rating.
            y: ratings, shape ``(n,)``.
            sample_weight: weights, shape ``(n,)``.
            axis: 0 for new rows; 1 for new columns, given their ratings by known rows.

        Raises:
            ValueError: a row is known already, or a column is unknown; ``axis`` is neither 0 nor 1; and as in
                `fit`.
            TypeError: as in `fit`.

        """
        check_is_fitted(self)
        if axis not in (0, 1):
            raise ValueError(f"`axis` must be 0 for new rows or 1 for new columns, got {axis!r}")
        X, y = split_ratings(X, y)
        new_ids, new = fold_in_entries(X, y, sample_weight, self._fitted.ids, axis, self.duplicates)
        self._check_features(X)
        self._fitted = updates.fold_in(self._fitted, axis, new_ids, new)
        return self

    def predict(self, X: Any, *, return_known: bool = False) -> Any:
        """Return predicted ratings, shape ``(n,)``, float64 and finite.

        If an id is unknown, the prediction is ``mean_`` plus the bias of the other id, if that is known.

        Args:
            X: row and column ids, shape ``(n, 2)``, as in `fit`.
            return_known: whether to return ``(predictions, known)``, where ``known``, shape ``(n,)``, is True
                for pairs of two known ids.

        Raises:
            ValueError: ``X`` does not have shape ``(n, 2)``, or an id is missing.
            TypeError: an id is not hashable.

        """
        check_is_fitted(self)
        X = as_frame(X)
        pairs = read_pairs(X)
        self._check_features(X)
        rows, columns = (self._fitted.ids[axis].indices(pairs[axis]) for axis in (0, 1))
        predictions = self._fitted.predictor.predict(rows, columns)
        return (predictions.values, predictions.known) if return_known else predictions.values

    def recommend(
        self, ids: Any, k: int = 10, *, exclude_seen: bool = True, candidates: Any = None, exclude: Any = None
    ) -> Ranking:
        """Return, for each row id, the ``k`` column ids with the highest predictions, and these predictions.

        Args:
            ids: row ids, shape ``(asked,)``; an unknown one gets the columns with the highest bias, with
                a `UserWarning`.
            k: at least 1.
            exclude_seen: whether a row does not get columns that it has rated.
            candidates: column ids, shape ``(candidates,)``: the only ones that may be recommended; None for
                all.
            exclude: column ids, shape ``(excluded,)``, that are not recommended, even if they are candidates.
                In both, unknown ids are ignored, with a `UserWarning`.

        Raises:
            ValueError: ``exclude_seen`` is set but the ratings were not kept; ``k`` is out of range; an id is
                missing.
            TypeError: ids are not hashable, or are not a list or an array.

        """
        check_is_fitted(self)
        return recommend_ids(
            self._fitted,
            ids,
            k,
            exclude_seen=exclude_seen,
            candidates=candidates,
            exclude=exclude,
            device=device_of(self.device),
        )

    def similar_items(self, ids: Any, k: int = 10) -> Ranking:
        """Return, for each column id, the ``k`` most similar other ones, and their cosine similarities.

        Args:
            ids: known column ids, shape ``(asked,)``.
            k: how many similar ids to return, at least 1.

        Raises:
            ValueError: an id is unknown, or ``k`` is out of range.
            TypeError: ``ids`` is not a list or an array.

        """
        check_is_fitted(self)
        return similar_ids(self._fitted, ids, k, axis=1, device=device_of(self.device))

    def similar_users(self, ids: Any, k: int = 10) -> Ranking:
        """Return, for each row id, the ``k`` most similar other ones, and their cosine similarities.

        Args:
            ids: known row ids, shape ``(asked,)``.
            k: how many similar ids to return, at least 1.

        Raises:
            ValueError: an id is unknown, or ``k`` is out of range.
            TypeError: ``ids`` is not a list or an array.

        """
        check_is_fitted(self)
        return similar_ids(self._fitted, ids, k, axis=0, device=device_of(self.device))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that `load`, ``dmf-fast predict`` and ``dmf-fast recommend`` read.

        It includes the ratings, if they were kept. An older model in ``folder`` is replaced atomically: even
        if the process is killed or the disk is full, the folder holds the old model or the new one.

        Raises:
            DataError: the ids are neither integers nor text. Use pickle for such ids.
            FileExistsError: the folder holds a file that is not part of a model; it is left unchanged.
            OSError: the folder cannot be written.

        """
        check_is_fitted(self)
        self._save(Path(folder))

    def _save(self, folder: Path, card: str | None = None) -> None:
        """Write what `save` writes, and a model card if there is one."""
        parameters = self.get_params(deep=False) | {"checkpoint": None, "resume": False}
        if not isinstance(self.random_state, Integral):
            parameters["random_state"] = None
        facts = {
            "parameters": parameters,
            "trained": {
                name: getattr(self, name)
                for name in ("n_iter_", "best_step_", "candidates_", "chosen_")
                if hasattr(self, name)
            },
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        save_fitted(self._fitted, facts, folder, card)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], depth: int | None = None) -> MatrixCompleter:
        """Load an estimator from a folder that `save` or ``dmf-fast complete`` wrote.

        A folder of ``dmf-fast complete`` does not hold the ratings, so that `partial_fit` raises an error;
        everything else works.

        Args:
            folder: the folder.
            depth: which model to load, if the folder holds several; None for the best one.

        Raises:
            DataError: the folder holds no model, is damaged, or is of another version.

        """
        fitted, facts = load_fitted(Path(folder), depth)
        parameters: dict[str, Any] = {
            "depth": len(fitted.model.factors),
            "clip": fitted.predictor.clip,
            "dtype": str(fitted.model.mean.dtype).removeprefix("torch."),
        }
        with reading(folder, "an estimator of this version of dmf_fast", "fit it again", DataError):
            completer = cls(**(parameters | facts.get("parameters", {})))
            completion_options(completer.get_params(deep=False))  # checks them
        completer._fitted = fitted
        completer.n_features_in_ = 2
        for name, value in facts.get("trained", {}).items():
            setattr(completer, name, value)
        if facts.get("feature_names"):
            completer.feature_names_in_ = np.array(facts["feature_names"], dtype=np.object_)
        return completer

    @property
    def model_(self) -> DeepMatrixFactorization:
        """The trained model."""
        return self._fitted.model

    @property
    def row_ids_(self) -> IdMap:
        """The map from row ids to indices and back."""
        return self._fitted.row_ids

    @property
    def column_ids_(self) -> IdMap:
        """The map from column ids to indices and back."""
        return self._fitted.column_ids

    @property
    def mean_(self) -> float:
        """The mean of the training ratings, predicted where neither id is known."""
        return self._fitted.predictor.training_mean

    @property
    def noise_variance_(self) -> float:
        """The mean squared error on the validation ratings, or on the training ratings without them."""
        return self._fitted.noise_variance

    def _check_features(self, X: Any, *, reset: bool = False) -> None:
        validate_data(self, X, reset=reset, skip_check_array=True)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = tags.input_tags.string = True
        tags.target_tags.required = False  # a matrix is X and y in one
        tags.regressor_tags.poor_score = True  # on scikit-learn's regression data, whose features are not ids
        return tags
