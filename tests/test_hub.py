"""The estimator on the Hugging Face Hub: what is pushed comes back; the Hub itself is a folder here."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import HfApi, ModelCard
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from dmf_fast.hub import HubMatrixCompleter
from tests.estimator.ratings import QUICK, ratings

X, Y = ratings()


@pytest.fixture(scope="module")
def completer() -> HubMatrixCompleter:
    return HubMatrixCompleter(**QUICK, depth=2).fit(X, Y)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder instead of the Hub: repositories are uploaded into it, and downloaded as links to files."""
    hub = tmp_path / "hub"

    def create_repo(self: HfApi, repo_id: str, **options: Any) -> Any:
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self: HfApi, *, repo_id: str, folder_path: Path, **options: Any) -> str:
        shutil.copytree(folder_path, hub / repo_id)
        return f"hub/{repo_id}"

    def snapshot_download(repo_id: str, **options: Any) -> str:
        assert options["revision"] == "main"
        snapshot = tmp_path / "cache" / repo_id
        snapshot.mkdir(parents=True)
        for file in (hub / repo_id).iterdir():
            (snapshot / file.name).symlink_to(file)
        return str(snapshot)

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr("dmf_fast.hub.snapshot_download", snapshot_download)
    return hub


def assert_same(one: HubMatrixCompleter, other: HubMatrixCompleter) -> None:
    assert isinstance(other, HubMatrixCompleter)
    assert np.array_equal(one.predict(X), other.predict(X))
    asked = X[:3, 0].tolist()
    assert one.recommend(asked, 4).ids.tolist() == other.recommend(asked, 4).ids.tolist()


def test_what_is_saved_comes_back_also_when_it_is_saved_again(
    completer: HubMatrixCompleter, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    for _ in range(2):
        completer.save_pretrained(folder)
        again = HubMatrixCompleter.from_pretrained(folder)
        assert_same(completer, again)
        assert again.get_params() == completer.get_params()
    again.save_pretrained(folder)
    assert_same(completer, HubMatrixCompleter.load(folder))


def test_what_is_pushed_comes_back(completer: HubMatrixCompleter, hub: Path) -> None:
    assert completer.push_to_hub("me/films") == "hub/me/films"
    assert_same(completer, HubMatrixCompleter.from_pretrained("me/films", revision="main"))


def test_a_repository_without_what_the_mixin_adds_can_be_loaded(
    completer: HubMatrixCompleter, hub: Path
) -> None:
    completer.save(hub / "me" / "films")
    assert not (hub / "me" / "films" / "config.json").exists()
    assert_same(completer, HubMatrixCompleter.from_pretrained("me/films", revision="main"))


def test_a_loaded_model_takes_the_parameters_of_this_machine_and_refuses_others(
    completer: HubMatrixCompleter, tmp_path: Path
) -> None:
    completer.save_pretrained(tmp_path / "films")
    of_the_machine = {"device": "cpu", "n_threads": 1, "verbose": True}
    again = HubMatrixCompleter.from_pretrained(tmp_path / "films", **of_the_machine)
    assert again.get_params() == completer.get_params() | of_the_machine
    for name in ("depth", "n_thread"):
        with pytest.raises(TypeError, match=f"must be among .*n_threads.*, got `{name}`"):
            HubMatrixCompleter.from_pretrained(tmp_path / "films", **{name: 3})


def test_the_card_is_one_that_the_hub_reads(completer: HubMatrixCompleter, tmp_path: Path) -> None:
    completer.save_pretrained(tmp_path / "films")
    card = ModelCard.load(tmp_path / "films" / "README.md")
    assert card.data.library_name == "dmf-fast"
    assert "recommender-system" in card.data.tags
    rows, columns = completer.model_.shape
    for line in (f"| rows | {rows} |", f"| columns | {columns} |", "| entries | 600 |", "| steps | 60 |"):
        assert line in card.content
    rmse = completer.noise_variance_**0.5
    assert f"| this model | {rmse:.4f} |" in card.content
    assert rmse == pytest.approx(completer.candidates_["depth 2"])
    assert "chosen: depth 2" in card.content


def test_the_card_names_the_model_that_was_chosen_whatever_the_noise_is(tmp_path: Path) -> None:
    completer = HubMatrixCompleter(**QUICK, depth=2).fit(X, Y)
    completer.candidates_["biases"] = completer.noise_variance_**0.5
    completer.candidates_["depth 2"] *= 0.9
    completer.save_pretrained(tmp_path / "films")
    content = ModelCard.load(tmp_path / "films" / "README.md").content
    assert "chosen: depth 2" in content
    assert f"| this model | {completer.candidates_['depth 2']:.4f} |" in content


def test_the_card_of_an_estimator_that_kept_nothing_says_what_is_known(tmp_path: Path) -> None:
    bare = HubMatrixCompleter(**QUICK, keep_ratings=False, validation_fraction=0).fit(X, Y)
    bare.save_pretrained(tmp_path / "films")
    loaded = HubMatrixCompleter.from_pretrained(tmp_path / "films")
    loaded.save_pretrained(tmp_path / "films")
    content = ModelCard.load(tmp_path / "films" / "README.md").content
    assert "| entries | – |" in content
    assert "No ratings were held out for evaluation." in content


def test_it_is_an_estimator_like_the_other(completer: HubMatrixCompleter) -> None:
    copy = clone(completer)
    assert isinstance(copy, HubMatrixCompleter)
    assert copy.get_params() == completer.get_params()


def test_what_is_not_fitted_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        HubMatrixCompleter(**QUICK).save_pretrained(tmp_path)
