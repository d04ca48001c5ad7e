"""scikit-learn's own checks of estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from dmf_fast import MatrixCompleter
from tests.estimator.wide_completer import WideCompleter

# The checks draw the same pair of ids again and again.
PARAMETERS: dict[str, Any] = {"duplicates": "mean", "hidden": 2, "steps": 5}

WIDTH = "it fits features of another number than the two ids of a pair; WideCompleter passes it"
OF_ANOTHER_WIDTH = dict.fromkeys(
    [
        "check_fit_score_takes_y",
        "check_dont_overwrite_parameters",
        "check_n_features_in_after_fitting",
        "check_positive_only_tag_during_fit",
        "check_estimators_dtypes",
        "check_sample_weights_list",
        "check_all_zero_sample_weights_error",
        "check_dtype_object",
        "check_pipeline_consistency",
        "check_estimators_nan_inf",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_regressors_train",
        "check_regressor_data_not_an_array",
        "check_regressors_no_decision_function",
        "check_supervised_y_2d",
        "check_regressors_int",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_dict_unchanged",
        "check_fit2d_predict1d",
    ],
    WIDTH,
)
REPEATED = {
    "check_sample_weight_equivalence_on_dense_data": "a pair has one entry in the matrix: where it is given "
    "again, `duplicates` decides, and without sample_weight the mean has the weight 1"
}


@parametrize_with_checks(
    [MatrixCompleter(**PARAMETERS)],
    expected_failed_checks=lambda estimator: OF_ANOTHER_WIDTH | REPEATED,
    xfail_strict=True,
)
def test_the_estimator_passes_the_checks_whose_features_are_two(
    estimator: MatrixCompleter, check: Callable[[Any], None]
) -> None:
    check(estimator)


@parametrize_with_checks(
    [WideCompleter(**PARAMETERS)], expected_failed_checks=lambda estimator: REPEATED, xfail_strict=True
)
def test_of_any_two_features_the_estimator_passes_all_checks(
    estimator: WideCompleter, check: Callable[[Any], None]
) -> None:
    check(estimator)
