"""The parameters of the estimator: the options of a completion, and those that only an estimator has."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any, TypeVar

from sklearn.utils import check_random_state

from dmf_fast.checks import did_you_mean
from dmf_fast.completion import CompletionOptions
from dmf_fast.options import options_of

Estimator = TypeVar("Estimator", bound=type)

# ``seed`` is random_state here; the others serve the study of single runs.
_LEFT_OUT = ("seed", "norms", "spectrum", "balancedness")
_OPTIONS = {name: option for name, option in options_of(CompletionOptions).items() if name not in _LEFT_OUT}
_DEFAULTS = CompletionOptions().values()
PARAMETERS: dict[str, Any] = {name: _DEFAULTS[name] for name in _OPTIONS} | {
    "clip": True,
    "dtype": "float32",
    "duplicates": "error",
    "keep_ratings": True,
    "checkpoint": None,
    "resume": False,
    "n_threads": None,
    "random_state": _DEFAULTS["seed"],
    "verbose": False,
}
"""Name and default of every parameter."""


def with_parameters(estimator: Estimator) -> Estimator:
    """Give a class a constructor with `PARAMETERS`, and document those that are options.

    scikit-learn reads the names from the signature, for ``get_params``, ``set_params`` and ``clone``.
    """
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in PARAMETERS.items()
    ]
    signature = inspect.Signature([own, *keywords])

    def __init__(self: Any, **parameters: Any) -> None:
        for name in parameters.keys() - PARAMETERS.keys():
            hint = did_you_mean(name, PARAMETERS) or "its documentation lists them"
            raise TypeError(f"`{type(self).__name__}` has no parameter {name!r}; {hint}")
        for name, value in (PARAMETERS | parameters).items():
            setattr(self, name, value)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    estimator.__init__ = __init__  # type: ignore[misc]
    lines = []
    for name, option in _OPTIONS.items():
        text = f"{name}: {replace(option, default=_DEFAULTS[name]).documentation}"
        lines += textwrap.wrap(text, 110, initial_indent=" " * 8, subsequent_indent=" " * 12)
    estimator.__doc__ = (estimator.__doc__ or "").replace("Args:\n", "\n".join(["Args:", *lines, ""]), 1)
    return estimator


def completion_options(parameters: Mapping[str, Any]) -> CompletionOptions:
    """Return the options of these parameters; they check themselves.

    >>> completion_options(PARAMETERS | {"depth": 3}).depth
    3
    """
    random_state = parameters["random_state"]
    if isinstance(random_state, Integral):
        seed = int(random_state)
    else:
        seed = int(check_random_state(random_state).randint(2**31 - 1))
    options = CompletionOptions.of({name: parameters[name] for name in _OPTIONS} | {"seed": seed})
    return replace(options, fit=replace(options.fit, seed=seed, progress=bool(parameters["verbose"])))
