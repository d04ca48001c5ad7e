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

    X is ``(n, 2)``: a row id (user) and a column id (item) for every rating; y holds the ratings. So
    `cross_val_score` and `GridSearchCV` work. Ids are of any hashable type and need not be contiguous; those
    that are all integers or all text are compared by how they are written, so that 7, 7.0 and "7" are one id.
    The training is that of ``dmf-fast complete``: early stopping by a part of the ratings, then another
    training on all of them.

    After Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019).

    Args:
        clip: whether predictions are clipped to the range of the ratings.
        dtype: ``"float32"`` or ``"float64"``, of the model.
        duplicates: what happens to a pair that is given more than once in a call, as for
            `dmf_fast.Observations`: ``"error"``, ``"first"``, ``"last"``, ``"mean"`` or ``"sum"``.
        keep_ratings: whether the ratings are kept, about 15 bytes each: `partial_fit` and the leaving out of
            what has been seen in `recommend` need them.
        checkpoint: folder for the state of the training, see `dmf_fast.completion.complete_matrix`.
            Estimators that are trained at the same time, as in a grid search, need different ones or none.
        resume: whether `fit` resumes from ``checkpoint``, bit for bit.
        n_threads: of torch while `fit` runs; None leaves their number alone. At depth 2 the model is bitwise
            the same for any number.
        random_state: seed of the start and of the validation part: a whole number, None for another one every
            time, or a NumPy ``RandomState``.
        verbose: whether a bar on standard error shows the training.

    Attributes:
        model_: the trained `dmf_fast.DeepMatrixFactorization`, of rows and columns by index, on the CPU.
        row_ids_, column_ids_: `dmf_fast.data.IdMap` from ids to indices and back.
        mean_: what predictions without any known id are.
        noise_variance_: the mean squared error on the validation ratings, or on those of the training where
            there were none.
        n_iter_: steps of the training that counts.
        best_step_: the step that the validation ratings chose, or None.
        candidates_: validation RMSE of the models that they chose among, by name.
        history_: `dmf_fast.training.History` with a row for every evaluation of the search; plots itself.
        n_features_in_: 2.
        feature_names_in_: names of the two columns, where X was a data frame.

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
            X: ``(n, 2)`` row and column ids: an array, a list, or a data frame with two columns. Without
                ``y``: a data frame with a third column of ratings; a SciPy sparse matrix of ratings, whose
                stored zeros are ratings; or an array of ratings ``(m, n)`` with NaN for those that are not
                known. The ids of a matrix are its indices. An array without NaN that has 2 to 4 columns, or 3
                or 4 rows, may be one of ids and ratings as well: it is refused, and so is one of 3 or 4
                columns without NaN in the first two.
            y: ``(n,)`` ratings.
            sample_weight: ``(n,)`` weights of the ratings; one of weight 2 counts as if it was given twice,
                and those of weight 0 are left out.
            validation: ``(X, y)``, or a data frame with three columns: ratings that choose the best step
                instead of a random part of the others. Those with an id that ``X`` lacks are left out, with a
                warning.

        Raises:
            ValueError: something is missing, not finite, of another shape, or out of range; a pair is given
                twice; the training diverged.
            TypeError: an id is not hashable, or what must be a number is not.

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
        self.candidates_ = {one.name: one.validation_rmse for one in completed.candidates}
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MatrixCompleter:
        """Take up new ratings of known ids, without another training; the first call is `fit`.

        A rating of a pair that has one already replaces it. The rows that are concerned move first, then the
        columns: each as a Gaussian posterior does, whose prior is the distribution of the trained rows or
        columns and whose noise is ``noise_variance_``. So a rating moves a row the less, the more ratings the
        row has; many small calls give about what one call gives; a rating that is given again changes
        nothing. The time is that of reading the kept ratings. Where a large part of the ratings is new, `fit`
        is better.

        Args:
            X: as for `fit`, but no matrix.
            y: ``(n,)`` ratings.
            sample_weight: ``(n,)`` weights.

        Raises:
            ValueError: an id is not known, or the ratings were not kept; or as for `fit`.

        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, sample_weight)
        if self._fitted.observed is None:
            raise ValueError(
                "partial_fit needs the ratings of the training, which were not kept; fit with "
                "keep_ratings=True"
            )
        X, y = split_ratings(X, y)
        new = known_entries(X, y, sample_weight, self._fitted.ids, self.duplicates)
        self._check_features(X)
        self._fitted = updates.partial_fit(self._fitted, new)
        return self

    def fold_in(self, X: Any, y: Any = None, sample_weight: Any = None, *, axis: int = 0) -> MatrixCompleter:
        """Add new rows, from their ratings of known columns, without another training.

        Each gets the vector that ridge regression on the fixed factors of the columns gives: drawn towards
        the mean of the trained rows, and the less so in directions in which these differ much. Nothing else
        changes. From then on the estimator predicts for the rows and recommends to them, and their ratings
        are kept like the others.

        Args:
            X: as for `fit`, but no matrix: a new row id and a known column id for every rating.
            y: ``(n,)`` ratings.
            sample_weight: ``(n,)`` weights.
            axis: 1 adds new columns, from their ratings by known rows.

        Raises:
            ValueError: a row is known already, or a column is not; or as for `fit`.

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
        """Return the predictions at pairs of ids, ``(n,)``, float64 and finite.

        Where an id is not known, the prediction is ``mean_`` plus the bias of the other one, if that is
        known.

        Args:
            X: ``(n, 2)`` ids.
            return_known: whether to return ``(predictions, known)``, where ``known`` ``(n,)`` says which
                pairs have two known ids.

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
        """Return the ``k`` column ids with the highest predictions for every row id, and these predictions.

        Args:
            ids: row ids, shape ``(asked,)``; an unknown one gets the columns with the highest bias.
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
        """Return the ``k`` other column ids that are most like each of ``ids``, with their cosines.

        Args:
            ids: ``(asked,)`` known column ids.
            k: at least 1.

        Raises:
            ValueError: an id is not known.

        """
        check_is_fitted(self)
        return similar_ids(self._fitted, ids, k, axis=1, device=device_of(self.device))

    def similar_users(self, ids: Any, k: int = 10) -> Ranking:
        """Return the ``k`` other row ids that are most similar to each of ``ids``, with their cosines.

        Args:
            ids: ``(asked,)`` known row ids.
            k: at least 1.

        Raises:
            ValueError: an id is not known.

        """
        check_is_fitted(self)
        return similar_ids(self._fitted, ids, k, axis=0, device=device_of(self.device))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that `load`, ``dmf-fast predict`` and ``dmf-fast recommend`` read.

        The ratings go with it, if they were kept. An older model in ``folder`` is replaced as a whole: the
        folder holds the old one or the new one, whenever the process is killed or the disk is full.

        Raises:
            DataError: the ids are neither integers nor text, which files cannot hold; pickle can.
            FileExistsError: the folder holds something that did not come with a model; it is left as it is.
            OSError: the folder cannot be written.

        """
        self._save(Path(folder))

    def _save(self, folder: Path, card: str | None = None) -> None:
        """Write what `save` writes and, where there is one, a model card."""
        check_is_fitted(self)
        parameters = self.get_params(deep=False) | {"checkpoint": None, "resume": False}
        if not isinstance(self.random_state, Integral):
            parameters["random_state"] = None
        facts = {
            "parameters": parameters,
            "trained": {
                name: getattr(self, name)
                for name in ("n_iter_", "best_step_", "candidates_")
                if hasattr(self, name)
            },
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        save_fitted(self._fitted, facts, folder, card)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], depth: int | None = None) -> MatrixCompleter:
        """Return the estimator that `save` wrote, or the model of a folder of ``dmf-fast complete``.

        Of such a folder the ratings are not known, so that `partial_fit` raises; all else works. ``depth``
        chooses a model where the folder has several.

        Raises:
            DataError: the folder is neither of these, damaged, or of another version.

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
        """What predictions without any known id are."""
        return self._fitted.predictor.training_mean

    @property
    def noise_variance_(self) -> float:
        """The mean squared error on ratings that were not trained on, where there were any."""
        return self._fitted.noise_variance

    def _check_features(self, X: Any, *, reset: bool = False) -> None:
        validate_data(self, X, reset=reset, skip_check_array=True)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = tags.input_tags.string = True
        tags.target_tags.required = False  # a matrix is X and y in one
        tags.regressor_tags.poor_score = True  # on scikit-learn's regression data: its features are no ids
        return tags
