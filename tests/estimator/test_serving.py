"""Recommendations, similar ids and folders, by raw ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dmf_fast import MatrixCompleter
from dmf_fast.cli.app import app
from dmf_fast.data import DataError
from dmf_fast.files.digests import write_sums
from tests.conftest import on_gpu
from tests.estimator.ratings import quick, ratings
from tests.publishing import assert_old_until_new

X, Y = ratings()
SAVED = quick().fit(X, Y)
COLUMNS = np.unique(X[:, 1])


def test_recommendations_are_the_columns_of_the_highest_predictions_that_a_row_has_not_rated() -> None:
    completer = quick().fit(X, Y)
    rows = np.unique(X[:, 0])[:6]
    ids, scores = completer.recommend(rows, k=5)
    for row, own_ids, own_scores in zip(rows, ids, scores, strict=True):
        unseen = np.setdiff1d(COLUMNS, X[X[:, 0] == row, 1])
        predictions = completer.predict([(row, column) for column in unseen])
        np.testing.assert_allclose(own_scores, np.sort(predictions)[::-1][:5], atol=1e-5)
        np.testing.assert_allclose(completer.predict([(row, key) for key in own_ids]), own_scores, atol=1e-5)


def test_what_was_seen_is_recommended_when_it_may_be() -> None:
    completer = quick().fit(X, Y)
    everything = completer.recommend([X[0, 0]], k=1000, exclude_seen=False).ids
    assert sorted(everything[0]) == COLUMNS.tolist()


def test_only_candidates_are_recommended_and_none_of_the_excluded() -> None:
    row = X[0, 0]
    unseen = SAVED.recommend([row], k=1000).ids[0]
    unseen = unseen[unseen != None].tolist()  # noqa: E711
    candidates, exclude = [*unseen[::-2], X[0, 1], unseen[2]], [str(unseen[2]), unseen[1]]

    found = SAVED.recommend([row], k=1000, candidates=candidates, exclude=exclude).ids[0]

    expected = [key for key in unseen if key in candidates and str(key) not in map(str, exclude)]
    assert found[: len(expected)].tolist() == expected
    assert set(found[len(expected) :]) == {None}
    assert set(SAVED.recommend([row], candidates=[]).ids[0]) == {None}


def test_ids_that_a_filter_does_not_know_are_ignored_with_a_warning() -> None:
    expected = SAVED.recommend([X[0, 0]], exclude=[COLUMNS[0]]).ids
    with pytest.warns(UserWarning, match="2 of 3 ids of `exclude`, such as 'no film', are unknown"):
        found = SAVED.recommend([X[0, 0]], exclude=["no film", COLUMNS[0], "none"]).ids
    assert found.tolist() == expected.tolist()


def test_places_that_cannot_be_filled_hold_none() -> None:
    completer = quick().fit([("ann", "a"), ("ann", "b"), ("bob", "a")], [1.0, 2.0, 3.0])
    with pytest.warns(UserWarning, match="1 of 3 ids of `ids`, such as 'never seen'"):
        ids, scores = completer.recommend(["ann", "bob", "never seen"], k=2)
    assert ids[:2].tolist() == [[None, None], ["b", None]]
    assert np.isneginf(scores[0]).all()
    assert set(ids[2]) == {"a", "b"}


def test_similar_ids_are_of_the_same_side_and_not_the_id_itself() -> None:
    completer = quick().fit(X, Y)
    ids, cosines = completer.similar_items(COLUMNS[:4], k=3)
    assert set(ids.ravel()) <= set(COLUMNS)
    assert not (ids == COLUMNS[:4, None]).any()
    assert (np.diff(cosines, axis=1) <= 0).all()
    assert set(completer.similar_users([X[0, 0]], k=3).ids.ravel()) <= set(X[:, 0])


@pytest.mark.parametrize(
    ("ask", "error", "sentence"),
    [
        (lambda completer: completer.recommend("ann"), TypeError, r"`ids` must be a list .* write \['ann'\]"),
        (lambda completer: completer.recommend(7), TypeError, r"`ids` must be a list .* write \[7\]"),
        (
            lambda completer: completer.recommend([7], exclude="a"),
            TypeError,
            "`exclude` must be a list or an",
        ),
        (
            lambda completer: completer.recommend([7], candidates=[None]),
            ValueError,
            "`candidates` must .*None or NaN",
        ),
        (lambda completer: completer.recommend([7], k=0), ValueError, "`k` must be at least 1"),
        (
            lambda completer: completer.similar_items([7]),
            ValueError,
            "`ids` must be known column ids, got 7",
        ),
        (
            lambda completer: completer.similar_users(["x"]),
            ValueError,
            "`ids` must be known row ids, got 'x'",
        ),
    ],
)
def test_what_cannot_be_answered_ends_in_a_sentence(
    ask: Callable[[MatrixCompleter], Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        ask(quick().fit(X, Y))


def test_without_kept_ratings_what_was_seen_cannot_be_left_out() -> None:
    completer = quick(keep_ratings=False).fit(X, Y)
    with pytest.raises(ValueError, match="`exclude_seen` must be False"):
        completer.recommend(X[:1, 0])
    assert completer.recommend(X[:1, 0], k=3, exclude_seen=False).ids.shape == (1, 3)


@on_gpu
def test_an_estimator_that_was_trained_on_a_gpu_answers_from_there_and_is_kept_on_the_cpu() -> None:
    completer = quick(device="cuda").fit(X, Y)
    rows = np.unique(X[:, 0])
    assert completer.model_.mean.device.type == "cpu"
    scores = completer.recommend(rows, k=5).scores
    np.testing.assert_allclose(
        scores, completer.set_params(device="cpu").recommend(rows, k=5).scores, atol=1e-5
    )


@pytest.mark.parametrize("keep", [True, False])
def test_a_saved_estimator_comes_back_as_it_was(tmp_path: Path, keep: bool) -> None:
    completer = quick(depth=3, keep_ratings=keep, random_state=4).fit(
        [(f"u {row}", column) for row, column in X], Y
    )
    completer.save(tmp_path / "model")
    loaded = MatrixCompleter.load(tmp_path / "model")
    pairs = [(f"u {row}", column) for row, column in X] + [("unknown", COLUMNS[0])]
    assert loaded.get_params() == completer.get_params()
    assert len({file.stat().st_mode for file in (tmp_path / "model").iterdir()}) == 1
    assert np.array_equal(loaded.predict(pairs), completer.predict(pairs))
    for name in ("n_iter_", "best_step_", "candidates_", "chosen_"):
        assert getattr(loaded, name) == getattr(completer, name)
    newcomer = [("new", column) for column in COLUMNS[:5].tolist()]
    for one in (completer, loaded):
        one.fold_in(newcomer, [1.0, 2.0, 3.0, 4.0, 5.0])
        if keep:
            one.partial_fit(newcomer[:2], [5.0, 5.0])
    assert np.array_equal(loaded.predict(newcomer), completer.predict(newcomer))
    assert np.array_equal(
        loaded.recommend(["new"], exclude_seen=keep).ids, completer.recommend(["new"], exclude_seen=keep).ids
    )


def command(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_a_folder_of_the_command_line_opens_as_an_estimator(tmp_path: Path) -> None:
    rows = [f"user {row},{column},{value:.3f}" for (row, column), value in zip(X, Y, strict=True)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    quickly = ("--hidden", 4, "--steps", 60, "--depth", 2, "--quiet")
    command("complete", tmp_path / "ratings.csv", "--out", tmp_path / "model", *quickly)
    loaded = MatrixCompleter.load(tmp_path / "model")
    trained = quick().fit([(f"user {row}", column) for row, column in X], Y.round(3))
    pairs = [(f"user {row}", column) for row, column in X]
    assert loaded.depth == 2
    assert np.corrcoef(loaded.predict(pairs), trained.predict(pairs))[0, 1] > 0.95
    assert loaded.noise_variance_ == pytest.approx(trained.noise_variance_, rel=1.0)
    seen = set(X[X[:, 0] == X[0, 0], 1])
    assert not seen & set(loaded.recommend([f"user {X[0, 0]}"], k=5).ids[0])
    loaded.fold_in([("new", COLUMNS[0])], [5.0])
    assert loaded.recommend(["new"], k=1000).ids.shape == (1, len(COLUMNS))
    assert COLUMNS[0] not in loaded.recommend(["new"], k=1000).ids[0]
    with pytest.raises(ValueError, match="a folder of dmf-fast complete holds no ratings"):
        loaded.partial_fit(pairs[:1], [1.0])


def test_the_command_line_recommends_from_a_saved_estimator(tmp_path: Path) -> None:
    completer = quick().fit(X, Y)
    completer.save(tmp_path)
    printed = command("recommend", tmp_path, X[0, 0], "--count", 1).output
    assert str(completer.recommend([X[0, 0]], k=1).ids[0, 0]) in printed


def test_ids_that_files_cannot_hold_are_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    quick().fit(X, Y).save(tmp_path)
    completer = quick().fit([((1, 2), "a"), ((1, 3), "a")], [1.0, 2.0])
    with pytest.raises(DataError, match="convert them to text"):
        completer.save(tmp_path)
    assert MatrixCompleter.load(tmp_path).model_.shape == (40, 30)  # what was there is still whole


@pytest.mark.parametrize("name", ["estimator.json", "ratings.safetensors"])
def test_a_file_that_the_list_of_digests_has_lost_is_missed(tmp_path: Path, name: str) -> None:
    SAVED.save(tmp_path)
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(name, f"other-{name}"))

    with pytest.raises(DataError, match=f"SHA256SUMS does not list {name}"):
        MatrixCompleter.load(tmp_path)


@pytest.mark.parametrize("name", ["estimator.json", "ratings.safetensors", "trained.json", "SHA256SUMS"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_damaged_folder_ends_in_a_sentence(tmp_path: Path, name: str, listed: bool) -> None:
    SAVED.save(tmp_path)
    (tmp_path / name).write_bytes(b"nothing")
    if listed:
        write_sums(tmp_path)
    elif name != "SHA256SUMS":
        with pytest.raises(DataError, match=f"{name} does not match SHA256SUMS"):
            MatrixCompleter.load(tmp_path)
    if name != "SHA256SUMS" or not listed:
        with pytest.raises(DataError, match="or is damaged"):
            MatrixCompleter.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise_variance", -1.0),
        ("noise_variance", float("nan")),
        ("noise_variance", "1"),
        ("parameters", [1]),
        ("parameters", {"unheard_of": 1}),
        ("parameters", {"device": 5}),
        ("parameters", {"steps": -1}),
        ("trained", None),
        ("trained", {"predict": 3}),
        ("trained", {"n_iter_": "many"}),
        ("feature_names", 3),
        ("feature_names", [3]),
        ("version", 1),
        ("more", 1),
    ],
)
def test_facts_that_no_estimator_writes_end_in_a_sentence(tmp_path: Path, name: str, value: Any) -> None:
    SAVED.save(tmp_path)
    path = tmp_path / "estimator.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    write_sums(tmp_path)
    with pytest.raises(DataError, match="or is damaged"):
        MatrixCompleter.load(tmp_path)


def test_whatever_write_fails_the_old_estimator_stays_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, new = tmp_path / "below" / "model", tmp_path / "new"
    SAVED.save(model)
    other = quick(keep_ratings=False).fit(X[:50], Y[:50])
    other.save(new)
    assert_old_until_new(model, new, lambda: other.save(model), monkeypatch)
