"""Autologging of MLflow logs the estimator as a step of a pipeline, and what a search has found."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from tests.estimator.ratings import quick, ratings

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # which the import would start
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's own use of libraries that deprecate what it uses
    import mlflow
    import mlflow.sklearn

X, Y = ratings()
pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="module", autouse=True)
def _autologging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Log into a database in a folder of these tests."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # What a model needs is found by another process that loads it, which takes 10 seconds.
        patch.setattr("mlflow.models.infer_pip_requirements", lambda *_, **__: ["dmf-fast"])
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.sklearn.autolog(silent=True)
        yield
        mlflow.sklearn.autolog(disable=True, silent=True)
        mlflow.set_tracking_uri(None)


def test_parameters_errors_and_model_of_a_pipeline_are_logged() -> None:
    with mlflow.start_run() as run:
        fitted = make_pipeline(quick(depth=2)).fit(X, Y)

    data = mlflow.get_run(run.info.run_id).data
    logged = {name: data.params[f"matrixcompleter__{name}"] for name in ("depth", "steps", "optimizer")}
    assert logged == {"depth": "2", "steps": "60", "optimizer": "adaptive-gd"}
    rmse = np.sqrt(np.mean((fitted.predict(X) - Y) ** 2))
    assert data.metrics["training_root_mean_squared_error"] == pytest.approx(rmse)
    (model,) = mlflow.search_logged_models(
        filter_string=f"source_run_id = '{run.info.run_id}'", output_format="list"
    )
    loaded = mlflow.sklearn.load_model(model.model_uri)
    assert np.array_equal(loaded.predict(X), fitted.predict(X))


def test_a_search_logs_what_it_has_tried() -> None:
    with mlflow.start_run() as run:
        GridSearchCV(quick(depth=2), {"hidden": [1, 4]}, cv=2).fit(X, Y)

    data = mlflow.get_run(run.info.run_id).data
    assert data.params["best_hidden"] in ("1", "4")
    assert "best_cv_score" in data.metrics
    children = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert sorted(children["params.hidden"]) == ["1", "4"]
