"""How cmfrec and LIBMF are fitted, and which of their settings are tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dmf_fast import Observations
from dmf_fast.evaluation import Biases, HeldOut

Settings = dict[str, Any]
Predict = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]
Fit = Callable[[HeldOut, tuple[int, int], Settings, int], Predict]


@dataclass(frozen=True)
class Library:
    """How to fit a library, the settings to start tuning from, and what is tried of each in this order.

    ``iterations`` and ``factors`` are the names of the settings for their numbers. An iteration passes over
    all entries ``passes`` times.
    """

    fit: Fit
    start: Settings
    tried: tuple[tuple[str, tuple[Any, ...]], ...]
    iterations: str
    factors: str
    passes: int


def fit_cmfrec(ratings: HeldOut, shape: tuple[int, int], settings: Settings, threads: int) -> Predict:
    """Alternating least squares with biases; ridge strengths in proportion to the number of ratings."""
    import cmfrec

    model = cmfrec.CMF(
        **settings,
        scale_lam=True,
        nthreads=threads,
        random_state=1,
        verbose=False,
        precompute_for_predictions=False,
    )
    model.fit(scipy.sparse.coo_array((ratings.values, (ratings.rows, ratings.columns)), shape=shape))
    return lambda rows, columns: np.asarray(model.predict(rows, columns))


def fit_libmf(ratings: HeldOut, shape: tuple[int, int], settings: Settings, threads: int) -> Predict:
    """Stochastic gradient descent without biases: on what the biases leave over, where that is set."""
    from libmf import mf

    options = dict(settings)
    strength = options.pop("lambda_2")
    values = ratings.values
    biases = None
    if options.pop("after_biases"):
        biases = Biases.fit(Observations(ratings.rows, ratings.columns, values, shape))
        values = values - biases.predict(ratings.rows, ratings.columns)
    model = mf.MF(
        **options,
        lambda_p2=strength,
        lambda_q2=strength,
        lambda_p1=0.0,
        lambda_q1=0.0,
        nr_threads=threads,
        quiet=True,
    )
    model.fit(np.column_stack((ratings.rows, ratings.columns, values)).astype(np.float32))

    def predict(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
        # The package reads all rows and then all columns, contrary to its documentation.
        pairs = np.asfortranarray(np.column_stack((rows, columns)))
        predictions = model.predict(pairs).astype(np.float64)
        return predictions if biases is None else predictions + biases.predict(rows, columns)

    return predict


LIBRARIES = {
    "cmfrec": Library(
        fit_cmfrec,
        {"k": 20, "lambda_": 0.085, "niter": 15, "use_cg": True},
        (
            ("lambda_", (0.065, 0.075, 0.095)),
            ("niter", (5, 10, 30)),
            ("k", (10, 40, 64)),
            ("use_cg", (False,)),
        ),
        iterations="niter",
        factors="k",
        passes=2,  # one for the rows, one for the columns
    ),
    "libmf": Library(
        fit_libmf,
        {"k": 12, "lambda_2": 0.04, "eta": 0.08, "nr_iters": 30, "after_biases": False},
        (
            ("lambda_2", (0.03, 0.05, 0.06)),
            ("nr_iters", (15, 60)),
            ("k", (8, 16, 24)),
            ("lambda_2", (0.03, 0.04, 0.05, 0.06)),
            ("eta", (0.05, 0.12)),
            ("after_biases", (True,)),
        ),
        iterations="nr_iters",
        factors="k",
        passes=1,
    ),
}
