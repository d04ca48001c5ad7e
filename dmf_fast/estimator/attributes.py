"""What can be asked of a fitted estimator, and what scikit-learn asks of any."""

from __future__ import annotations

from typing import Any

from dmf_fast.data import IdMap
from dmf_fast.estimator.fitted import FittedMatrix
from dmf_fast.estimator.parameters import CompleterParameters
from dmf_fast.nn import DeepMatrixFactorization


class FittedAttributes(CompleterParameters):
    """Attributes of what was learnt; `MatrixCompleter` documents them."""

    _fitted: FittedMatrix

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

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = tags.input_tags.string = True
        tags.target_tags.required = False  # a matrix is X and y in one
        tags.regressor_tags.poor_score = True  # on scikit-learn's regression data: its features are no ids
        return tags
