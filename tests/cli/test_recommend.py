"""``dmf-fast recommend``: the best items that the user has not rated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from safetensors.numpy import load_file

from dmf_fast.cli import recommend
from dmf_fast.data import IdMap, read_ratings
from tests.cli.runs import Run


def scores_of_unseen(folder: Path, ratings: Path, user: int) -> dict[str, float]:
    """Return the unclipped prediction of every film that the user has not rated."""
    tensors = load_file(folder / "model-depth-2.safetensors")
    scores = tensors["factors.1"][user - 100].astype(float) @ tensors["factors.0"] + tensors["column_bias"]
    table = read_ratings(ratings)
    films = IdMap.load(folder / "column_ids.parquet").ids.to_pylist()
    of_user = table.columns[table.row_ids.ids_at(table.rows).to_numpy() == user]
    seen = set(table.column_ids.ids_at(of_user).to_pylist())
    return {film: score for film, score in zip(films, scores, strict=True) if film not in seen}


@pytest.mark.parametrize("user", [100, 117, 129])
def test_the_best_unseen_items_come_first(
    dmf_fast: Run, trained: Path, ratings_file: Path, user: int
) -> None:
    scores = scores_of_unseen(trained, ratings_file, user)

    result = dmf_fast("recommend", trained, user, "--count", "5", "--json")

    assert result.exit_code == 0, result.stderr
    recommendations = json.loads(result.stdout)["recommendations"]
    assert [one["item"] for one in recommendations] == sorted(scores, key=lambda film: -scores[film])[:5]


def test_predictions_shown_lie_in_the_range_of_the_ratings(
    dmf_fast: Run, trained: Path, ratings_file: Path
) -> None:
    values = read_ratings(ratings_file).values

    result = dmf_fast("recommend", trained, 101, "--json")

    shown = np.array([one["prediction"] for one in json.loads(result.stdout)["recommendations"]])
    assert ((values.min() <= shown) & (shown <= values.max())).all()


def test_asking_for_more_than_there_is_gives_all_that_is_unseen(
    dmf_fast: Run, trained: Path, ratings_file: Path
) -> None:
    result = dmf_fast("recommend", trained, 110, "--count", "1000", "--json")

    columns = [one["item"] for one in json.loads(result.stdout)["recommendations"]]
    assert set(columns) == set(scores_of_unseen(trained, ratings_file, 110))


def test_a_person_sees_a_table(dmf_fast: Run, trained: Path) -> None:
    result = dmf_fast("recommend", trained, 110, "--count", "3")

    assert result.exit_code == 0
    assert result.stdout.count("film") == 3


@pytest.mark.parametrize("user", ["999", "nobody", "0110", ""])
def test_a_user_that_is_not_there_is_named(dmf_fast: Run, trained: Path, user: str) -> None:
    result = dmf_fast("recommend", trained, user)

    assert result.exit_code == 2
    assert repr(user) in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_recommendations_to_all_are_those_to_each(
    dmf_fast: Run, trained: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommend, "USERS_AT_ONCE", 7)
    out = tmp_path / f"all{suffix}"

    result = dmf_fast("recommend", trained, "--all", "--count", "4", "--out", out)

    assert result.exit_code == 0, result.stderr
    table = (csv.read_csv(out) if suffix == ".csv" else pq.read_table(out)).to_pylist()
    assert [line["user"] for line in table] == sorted(line["user"] for line in table)
    assert {line["user"] for line in table} == set(range(100, 130))
    for user in (100, 117):
        single = json.loads(dmf_fast("recommend", trained, user, "--count", "4", "--json").stdout)
        of_user = [line for line in table if line["user"] == user]
        assert [line["rank"] for line in of_user] == [1, 2, 3, 4]
        assert all(line["known"] for line in of_user)
        for line, one in zip(of_user, single["recommendations"], strict=True):
            assert line["item"] == one["item"]
            assert line["prediction"] == pytest.approx(one["prediction"])


def test_users_of_a_file_come_in_its_order_and_unknown_ones_are_flagged(
    dmf_fast: Run, trained: Path, tmp_path: Path
) -> None:
    users, out = tmp_path / "users.txt", tmp_path / "out.csv"
    users.write_bytes("\ufeffuserId\r\n117.0\r\nnobody\r\n\r\n 100 \r\n".encode())

    result = dmf_fast("recommend", trained, "--users", users, "--count", "2", "--out", out)

    assert result.exit_code == 0, result.stderr
    table = csv.read_csv(out).to_pylist()
    assert [line["user"] for line in table] == ["117", "117", "nobody", "nobody", "100", "100"]
    assert [line["known"] for line in table] == [True, True, False, False, True, True]
    bias = load_file(trained / "model-depth-2.safetensors")["column_bias"]
    films = IdMap.load(trained / "column_ids.parquet").ids.to_pylist()
    assert table[2]["item"] == films[int(bias.argmax())]


@pytest.mark.parametrize("of_file", [False, True])
def test_items_are_recommended_of_the_candidates_without_the_excluded(
    dmf_fast: Run, trained: Path, ratings_file: Path, tmp_path: Path, of_file: bool
) -> None:
    scores = scores_of_unseen(trained, ratings_file, 110)
    unseen = sorted(scores, key=lambda film: -scores[film])
    candidates, exclude = [*unseen[2:7], "film 3", unseen[4]], [unseen[3], unseen[0]]
    given: list[str] = []
    for flag, ids in (("--candidates", candidates), ("--exclude", exclude)):
        file = tmp_path / f"{flag}.txt"
        file.write_text("\n".join(["itemId", *ids]))
        given += [flag, f"@{file}" if of_file else ", ".join(ids)]

    result = dmf_fast("recommend", trained, 110, *given, "--json")

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    expected = [film for film in unseen if film in candidates and film not in exclude]
    assert [one["item"] for one in json.loads(result.stdout)["recommendations"]] == expected


def test_filters_hold_for_all_users(dmf_fast: Run, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    result = dmf_fast("recommend", trained, "--all", "--seen", "--candidates", "film 3,film 5", "--out", out)

    assert result.exit_code == 0, result.stderr
    table = csv.read_csv(out).to_pylist()
    assert len(table) == 60
    assert {line["item"] for line in table} == {"film 3", "film 5"}


def test_unknown_ids_of_filters_are_ignored_with_a_warning(dmf_fast: Run, trained: Path) -> None:
    expected = dmf_fast("recommend", trained, 110, "--exclude", "film 3", "--json")
    with pytest.warns(UserWarning, match="2 of 3 ids of `--exclude`, such as 'no film', are unknown"):
        found = dmf_fast("recommend", trained, 110, "--exclude", "no film,film 3,none", "--json")
    with pytest.warns(UserWarning, match="1 of 1 ids of `--candidates`"):
        nothing = dmf_fast("recommend", trained, 110, "--candidates", "no film", "--json")

    assert found.stdout == expected.stdout
    assert json.loads(nothing.stdout)["recommendations"] == []


def test_seen_items_are_recommended_when_asked(dmf_fast: Run, trained: Path) -> None:
    everything = dmf_fast("recommend", trained, 110, "--count", "1000", "--seen", "--json")

    assert len(json.loads(everything.stdout)["recommendations"]) == 20


def test_similar_items_have_the_largest_cosines(dmf_fast: Run, trained: Path) -> None:
    tensors = load_file(trained / "model-depth-2.safetensors")
    # The balanced factors of the product: its singular vectors, times the roots of its singular values.
    _, s, vt = np.linalg.svd(tensors["factors.1"].astype(float) @ tensors["factors.0"], full_matrices=False)
    columns = (np.sqrt(s)[:4, None] * vt[:4]).T
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    films = IdMap.load(trained / "column_ids.parquet").ids.to_pylist()
    cosines = columns @ columns[films.index("film 3")]
    cosines[films.index("film 3")] = -np.inf
    best = np.argsort(-cosines)[:3]

    result = dmf_fast("recommend", trained, "--similar", "film 3", "--count", "3", "--json")

    found = json.loads(result.stdout)["similar"]
    assert [one["item"] for one in found] == [films[place] for place in best]
    np.testing.assert_allclose([one["similarity"] for one in found], cosines[best], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ([], "got none of them"),
        (["100", "--all"], "got USER and --all"),
        (["--all"], "--out FILE belongs to"),
        (["100", "--out", "x.csv"], "--out FILE belongs to"),
        (["--all", "--out", "x.txt"], ".csv or .parquet"),
        (["--users", "nowhere.txt", "--out", "x.csv"], "nowhere.txt"),
        (["--similar", "film 3", "--exclude", "film 1"], "leave them out with --similar"),
        (["100", "--candidates", "film 1,,film 2"], "`--candidates` must hold ids separated by commas"),
        (["100", "--exclude", ""], "`--exclude` must hold ids"),
        (["100", "--candidates", "@"], "`--candidates` must hold ids separated by commas, or @FILE, got '@'"),
        (["--all", "--out", "x.csv", "--exclude", "@"], "`--exclude` must hold ids"),
        (["100", "--exclude", "@nowhere.txt"], "nowhere.txt does not exist"),
        (["--all", "--out", "no.csv", "--exclude", "@no.csv"], "no.csv is --exclude"),
        (["--similar", "no film"], "The item 'no film' is not among the 20"),
    ],
)
def test_what_cannot_be_recommended_is_refused(
    dmf_fast: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str],
    word: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)

    refused = dmf_fast("recommend", trained, *options)

    assert refused.exit_code == 2
    assert word in refused.stderr
    assert list(tmp_path.iterdir()) == []
