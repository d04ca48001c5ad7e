"""The patterns that benchmarks run on."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.observations.layout import Layout

MILLION = (6040, 3706, 1_000_000)
TEN_MILLION = (69878, 10677, 10_000_000)
NETFLIX = (480_189, 17_770, 100_000_000)


@dataclass(frozen=True)
class Problem:
    """Observed entries and the two sides of the split, float32: ``a`` is (m, h), ``b_transposed`` (n, h)."""

    rows: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, int]
    a: Tensor
    b_transposed: Tensor

    @property
    def nnz(self) -> int:
        return self.values.numel()

    @property
    def h(self) -> int:
        return self.a.shape[1]

    @property
    def flops(self) -> float:
        """Flops of loss, dA and dB over the observed entries."""
        return 6.0 * self.nnz * self.h

    @property
    def dram_bytes(self) -> float:
        """Bytes that a pass must move at least: layout, values, A, B, dA and dB once each."""
        return 15 * self.nnz + 2 * 4 * self.h * sum(self.shape)

    def observations(self) -> Observations:
        return Observations(self.rows, self.columns, self.values, self.shape)

    @cached_property
    def checked(self) -> Observations:
        """The observations, made once for all passes that read them."""
        return self.observations()

    @cached_property
    def layout(self) -> Layout:
        """Their layout, built once."""
        return self.checked.layout()

    def to(self, device: torch.device | str) -> Problem:
        """Return the same problem on `device`."""
        tensors = ("rows", "columns", "values", "a", "b_transposed")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


def skewed(rows: int, columns: int, nnz: int, h: int, seed: int = 0) -> Problem:
    """Entries whose rows and columns follow Zipf's law, each pair once, in random order."""
    row_of, column_of, values = _skewed_entries(rows, columns, nnz, seed)
    return _problem(row_of, column_of, values, (rows, columns), h)


def skewed_on(
    device: torch.device | str, rows: int, columns: int, nnz: int, h: int, seed: int = 0
) -> Problem:
    """Entries of the same law, drawn on `device`: a GPU draws 100M in seconds, NumPy in minutes."""
    row_of, column_of, values = _skewed_entries_on(torch.device(device), rows, columns, nnz, seed)
    return _problem(row_of, column_of, values, (rows, columns), h).to(device)


def movielens(h: int) -> Problem | None:
    """MovieLens 100K, where the user has it."""
    ratings = movielens_ratings("u.data")
    return None if ratings is None else _problem(*ratings.coordinates(), ratings.values, ratings.shape, h)


def movielens_ratings(file: str) -> Observations | None:
    """Return the ratings of a file of MovieLens 100K by the ids less 1, where the user has it."""
    path = movielens_folder() / file
    if not path.is_file():
        return None
    data = np.loadtxt(path, dtype=np.int64)
    return Observations(data[:, 0] - 1, data[:, 1] - 1, data[:, 2].astype(np.float32), (943, 1682))


def movielens_folder() -> Path:
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("DMF_FAST_DATA", shared)) / "ml-100k"


@lru_cache(maxsize=1)
def _skewed_entries(rows: int, columns: int, nnz: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = np.random.default_rng(seed)
    row_places, column_places = generator.permutation(rows), generator.permutation(columns)
    keys = np.empty(0, dtype=np.int64)
    while keys.size < nnz:
        draws = int(1.3 * (nnz - keys.size)) + 1000
        drawn_rows = row_places[_zipf(generator, rows, draws)]
        drawn_columns = column_places[_zipf(generator, columns, draws)]
        keys = np.unique(np.concatenate([keys, drawn_rows * columns + drawn_columns]))
    keys = generator.permutation(keys)[:nnz]
    values = torch.from_numpy(generator.standard_normal(nnz, dtype=np.float32))
    return torch.from_numpy(keys // columns), torch.from_numpy(keys % columns), values


def _zipf(generator: np.random.Generator, count: int, draws: int, exponent: float = 0.6) -> np.ndarray:
    """Draw from 0 … count−1 with probability proportional to (k + 1)^−exponent."""
    weights = np.cumsum(np.arange(1, count + 1, dtype=np.float64) ** -exponent)
    return np.searchsorted(weights / weights[-1], generator.random(draws)).clip(max=count - 1)


@lru_cache(maxsize=1)
def _skewed_entries_on(
    device: torch.device, rows: int, columns: int, nnz: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    row_places = torch.randperm(rows, generator=generator, device=device)
    column_places = torch.randperm(columns, generator=generator, device=device)
    keys = torch.empty(0, dtype=torch.int64, device=device)
    while keys.numel() < nnz:
        draws = int(1.3 * (nnz - keys.numel())) + 1000
        drawn_rows = row_places[_zipf_on(generator, rows, draws)]
        drawn_columns = column_places[_zipf_on(generator, columns, draws)]
        keys = torch.cat([keys, drawn_rows * columns + drawn_columns]).unique()
    keys = keys[torch.randperm(keys.numel(), generator=generator, device=device)[:nnz]]
    values = torch.randn(nnz, generator=generator, device=device)
    return keys // columns, keys % columns, values


def _zipf_on(generator: torch.Generator, count: int, draws: int, exponent: float = 0.6) -> Tensor:
    device = generator.device
    weights = torch.arange(1, count + 1, dtype=torch.float64, device=device).pow(-exponent).cumsum(0)
    uniform = torch.rand(draws, dtype=torch.float64, generator=generator, device=device)
    return torch.searchsorted(weights / weights[-1], uniform).clamp(max=count - 1)


def _problem(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], h: int) -> Problem:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(shape[0], h, generator=generator) / h**0.5
    b_transposed = torch.randn(shape[1], h, generator=generator)
    return Problem(rows, columns, values, shape, a, b_transposed)
