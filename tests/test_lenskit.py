"""The scorer in LensKit's pipelines: its scores are the predictions of an estimator with the same options."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lenskit import predict, recommend, score, topn_pipeline
from lenskit.basic import BiasScorer
from lenskit.batch import recommend as recommend_all
from lenskit.data import Dataset, ItemList, from_interactions_df
from lenskit.pipeline import RecPipelineBuilder
from lenskit.training import TrainingOptions

from dmf_fast import MatrixCompleter
from dmf_fast.completion import CompletionOptions
from dmf_fast.lenskit import MatrixCompletionScorer
from tests.estimator.ratings import QUICK, quick, ratings

OPTIONS = CompletionOptions().changed(QUICK)
PAIRS, VALUES = ratings()
USERS, ITEMS = np.unique(PAIRS[:, 0]), np.unique(PAIRS[:, 1])


def data_of(pairs: np.ndarray = PAIRS, values: Sequence[float] | np.ndarray = VALUES) -> Dataset:
    frame = pd.DataFrame({"user_id": pairs[:, 0], "item_id": pairs[:, 1], "rating": values})
    return from_interactions_df(frame.sort_values(["user_id", "item_id"]))


@pytest.fixture(scope="module")
def completer() -> MatrixCompleter:
    """Our own estimator, trained on the same ratings in the same order."""
    order = np.lexsort(PAIRS.T[::-1])
    return quick(clip=False).fit(PAIRS[order], VALUES[order])


@pytest.fixture(scope="module")
def scorer() -> MatrixCompletionScorer:
    scorer = MatrixCompletionScorer(OPTIONS)
    scorer.train(data_of())
    return scorer


def test_scores_are_our_predictions(scorer: MatrixCompletionScorer, completer: MatrixCompleter) -> None:
    items = ItemList(item_ids=ITEMS[::-1].copy())
    scored = scorer(query=USERS[3], items=items)
    expected = completer.predict([(USERS[3], item) for item in ITEMS[::-1]])
    np.testing.assert_allclose(scored.scores(), expected, rtol=1e-6)
    assert scored.ids().tolist() == items.ids().tolist()


def test_a_pipeline_recommends_what_we_recommend(completer: MatrixCompleter) -> None:
    pipeline = topn_pipeline(MatrixCompletionScorer(OPTIONS), n=5)
    pipeline.train(data_of())
    ours = completer.recommend(USERS[:4], 5)
    theirs = recommend_all(pipeline, USERS[:4], n=5, n_jobs=1)
    for user, ids, scores in zip(USERS[:4], ours.ids, ours.scores, strict=True):
        listed = theirs.lookup(user)
        assert listed.ids().tolist() == ids.tolist()
        np.testing.assert_allclose(listed.scores(), scores, rtol=1e-6)
    assert recommend(pipeline, USERS[0], 5).ids().tolist() == ours.ids[0].tolist()


def test_unknown_users_and_items_have_no_score_and_a_fallback_takes_them() -> None:
    scorer = MatrixCompletionScorer(OPTIONS)
    builder = RecPipelineBuilder()
    builder.scorer(scorer)
    builder.predicts_ratings(fallback=BiasScorer())
    pipeline = builder.build()
    pipeline.train(data_of())
    items = [ITEMS[0], -1]
    known, unknown = score(pipeline, USERS[0], items), score(pipeline, -1, items)
    assert np.isnan(known.scores()).tolist() == [False, True]
    assert np.isnan(unknown.scores()).all()
    predicted = predict(pipeline, USERS[0], items).scores()
    assert predicted[0] == known.scores()[0]
    assert np.isfinite(predicted[1])


def test_training_is_skipped_repeated_and_seeded_as_its_options_say() -> None:
    scorer, items = MatrixCompletionScorer(OPTIONS), ItemList(item_ids=ITEMS)

    def scores(**options: object) -> list[float]:
        scorer.train(data_of(), TrainingOptions(**options))  # type: ignore[arg-type]
        return scorer(query=USERS[0], items=items).scores().tolist()

    first = scores(rng=1)
    assert scores(rng=2, retrain=False) == first
    assert scores(rng=2) != first
    assert scores(rng=1) == first


def test_its_configuration_is_that_of_a_completion_and_survives_a_pipeline() -> None:
    scorer = MatrixCompletionScorer(depth=3, hidden=7)
    assert scorer.config == CompletionOptions(depth=3, hidden=7)
    assert MatrixCompletionScorer.validate_config(scorer.dump_config()) == scorer.config
    assert MatrixCompletionScorer(OPTIONS).dump_config()["fit"]["steps"] == QUICK["steps"]


def test_its_keywords_are_those_of_the_estimator_and_others_are_refused() -> None:
    scorer = MatrixCompletionScorer(steps=7, evaluate_every=5)
    assert scorer.config == CompletionOptions().changed({"steps": 7, "evaluate_every": 5})
    assert MatrixCompletionScorer.validate_config({"fit": {"steps": 7}}).fit == replace(
        CompletionOptions().fit, steps=7
    )
    for unknown in ({"step": 7}, {"fit": {"step": 7}}):
        with pytest.raises(TypeError, match=r"got .*\Wstep\W"):
            MatrixCompletionScorer(**unknown)


def test_a_trained_scorer_survives_pickle(scorer: MatrixCompletionScorer) -> None:
    items = ItemList(item_ids=ITEMS)
    again = pickle.loads(pickle.dumps(scorer))
    assert (
        again(query=USERS[0], items=items).scores().tolist()
        == scorer(query=USERS[0], items=items).scores().tolist()
    )


def test_interactions_without_ratings_are_refused() -> None:
    data = from_interactions_df(pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2]}))
    with pytest.raises(ValueError, match="`data` must have a rating for every interaction"):
        MatrixCompletionScorer(OPTIONS).train(data)
