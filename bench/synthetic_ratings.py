"""Ratings drawn like those of MovieLens 1M, which may not be redistributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

BLOCK = 1_000_000  # entries whose scores are formed at once


@dataclass(frozen=True)
class Population:
    """What the ratings are drawn from; the defaults are calibrated to MovieLens 1M.

    With 6040 × 3706 and a million entries they give MovieLens' mean of 3.58 and standard deviation of
    1.117; on a 90/10 split, row and column biases have a test RMSE of about 0.908, and the best settings of
    cmfrec one of about 0.858, the figures published for MovieLens 1M.
    """

    mean: float = 3.38  # of the score, before popular items, rounding and clipping shift it
    user_bias: float = 0.488
    item_bias: float = 0.637
    liking_of_popular: float = 0.45  # correlation of an item's bias with the logarithm of its popularity
    taste: float = 0.48  # standard deviation of the sum over all tastes
    tastes: int = 32
    decay: float = 0.8  # taste k has a standard deviation in proportion to k**-decay
    noise: float = 0.771
    noise_spread: float = 0.25  # of the logarithm of a user's noise, and of an item's
    least_activity: int = 20  # MovieLens keeps users of at least 20 ratings …
    activity_spread: float = 1.14  # … and the rest is log-normal: here median 97, mean 166
    popularity_shape: float = 0.62  # Weibull: of 3706 items half have up to 131 ratings, the first has 3066


def movielens_like(
    shape: tuple[int, int], entries: int, seed: int, population: Population | None = None
) -> tuple[Integers, Integers, Floats]:
    """Return rows (users), columns (items) and values (1 … 5 stars) of distinct entries in a random order.

    Every item is rated, and every user has at least 20 ratings if ``entries`` and ``shape`` allow it. Popular
    items are liked better, so entries are not missing at random. The same arguments give the same ratings.
    """
    population = population or Population()
    random = np.random.default_rng(seed)
    popularity = random.weibull(population.popularity_shape, shape[1]) + 1e-9
    rows, columns = _entries(shape, entries, popularity, population, random)
    scores = _scores(rows, columns, shape, popularity, population, random)
    return rows, columns, np.clip(np.rint(scores), 1, 5)


def _scores(
    rows: Integers,
    columns: Integers,
    shape: tuple[int, int],
    popularity: Floats,
    population: Population,
    random: np.random.Generator,
) -> Floats:
    """Return mean + biases + tastes + noise for every entry: what a user would say if stars had fractions."""
    liked = np.log(popularity)
    liked = (liked - liked.mean()) / liked.std()
    chance = random.standard_normal(shape[1])
    share = population.liking_of_popular
    item_bias = population.item_bias * (share * liked + np.sqrt(1 - share**2) * chance)
    user_bias = population.user_bias * random.standard_normal(shape[0])

    spectrum = np.arange(1, population.tastes + 1) ** -population.decay
    spectrum *= population.taste / np.linalg.norm(spectrum)
    user_tastes = random.standard_normal((shape[0], population.tastes), dtype=np.float32)
    user_tastes *= spectrum.astype(np.float32)
    item_tastes = random.standard_normal((shape[1], population.tastes), dtype=np.float32)
    user_noise, item_noise = (
        np.exp(population.noise_spread * random.standard_normal(size)) for size in shape
    )

    scores = population.noise * random.standard_normal(len(rows))
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        user, item = rows[block], columns[block]
        scores[block] *= user_noise[user] * item_noise[item]
        scores[block] += population.mean + user_bias[user] + item_bias[item]
        scores[block] += np.einsum("ek,ek->e", user_tastes[user], item_tastes[item])
    return scores


def _entries(
    shape: tuple[int, int],
    entries: int,
    popularity: Floats,
    population: Population,
    random: np.random.Generator,
) -> tuple[Integers, Integers]:
    """Return distinct (user, item) pairs: every item once, the rest by activity and popularity."""
    users, items = shape
    if not max(users, items) <= entries <= users * items // 2:
        raise ValueError(f"`entries` must be from {max(users, items)} to {users * items // 2}, got {entries}")
    activity = _activity(users, items, entries, population, random)
    distribution = np.cumsum(popularity) / popularity.sum()
    first = random.choice(users, items, p=activity / activity.sum())
    cells = np.sort(first * items + np.arange(items))
    missing = np.maximum(activity - np.bincount(first, minlength=users), 0)
    for _ in range(30):
        user = np.repeat(np.arange(users), missing)
        item = np.minimum(np.searchsorted(distribution, random.random(len(user))), items - 1)
        cells, added = _united(cells, user * items + item)
        missing -= np.bincount(added // items, minlength=users)
    while len(cells) < entries:  # few are left to draw, for users who have nearly all popular items
        cells, _ = _united(cells, random.integers(0, users * items, entries - len(cells)))
    cells = random.permutation(cells)[:entries]
    return cells // items, cells % items


def _activity(
    users: int, items: int, entries: int, population: Population, random: np.random.Generator
) -> Integers:
    """Return how many items each user rates: at least 20, log-normal above, ``entries`` in all or nearly."""
    least = min(population.least_activity, entries // users)
    above = np.exp(population.activity_spread * random.standard_normal(users))
    share = (entries - least * users) / above.sum()
    return np.minimum(least + np.rint(share * above).astype(np.int64), items * 3 // 5)


def _united(cells: Integers, others: Integers) -> tuple[Integers, Integers]:
    """Return the sorted union with sorted ``cells``, and what is new in it."""
    others = np.sort(others)  # and not np.unique, which hashes, many times slower
    others = others[np.append(True, others[1:] != others[:-1])[: len(others)]]
    places = np.searchsorted(cells, others)
    new = cells[np.minimum(places, len(cells) - 1)] != others
    return np.insert(cells, places[new], others[new]), others[new]
