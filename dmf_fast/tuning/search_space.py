"""The search space: which options are searched, and their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dmf_fast.completion import CompletionOptions
from dmf_fast.options import Option, options_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_OPTIONS = options_of(CompletionOptions)
# Multiples of 16 are the fastest widths.
_RANGES: dict[str, tuple[Any, ...]] = {
    "weight_decay": (0.02, 1.0),
    "bias_weight_decay": (0.002, 1.0),
    "degree_exponent": (0.0, 1.0),
    "hidden": (16, 32, 64, 128),
}


@dataclass(frozen=True)
class SearchSpace:
    """The options of `CompletionOptions` to search, with their ranges or choices; the others are fixed.

    A real-valued option has a range, on a logarithmic scale if the option has no upper bound; other options
    have choices.

    Attributes:
        ranges: ``(lowest, highest)`` or choices by the name of the option. The defaults are for ratings.

    Raises:
        ValueError: a name is not that of an option; a range is empty, outside the bounds of the option, or
            includes 0 on a logarithmic scale; or there are no choices.
        TypeError: a value does not have the type of the option.

    Example:
        >>> list(SearchSpace({"depth": (2, 3), "lr": (1e-3, 1.0)}).ranges)
        ['depth', 'lr']

    """

    ranges: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: dict(_RANGES))

    def __post_init__(self) -> None:
        checked = {name: _checked(name, values) for name, values in self.ranges.items()}
        object.__setattr__(self, "ranges", checked)

    def changed(self, **ranges: tuple[Any, ...] | None) -> SearchSpace:
        """Return the space with other ranges for some options; None removes an option from the search.

        >>> list(SearchSpace().changed(hidden=None, init_scale=None, depth=(1, 2)).ranges)
        ['weight_decay', 'bias_weight_decay', 'degree_exponent', 'depth']
        """
        merged = {**self.ranges, **ranges}
        return SearchSpace({name: values for name, values in merged.items() if values is not None})

    def distributions(self, start: CompletionOptions) -> dict[str, BaseDistribution]:
        """Return the distributions for Optuna, with the values of ``start`` among the choices."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        values = start.values()
        found: dict[str, BaseDistribution] = {}
        for name, tried in self.ranges.items():
            option = _OPTIONS[name]
            if _has_range(option):
                found[name] = FloatDistribution(tried[0], tried[1], log=_is_logarithmic(option))
            else:
                found[name] = CategoricalDistribution(tuple(dict.fromkeys((*tried, values[name]))))
        return found

    def place_of(self, start: CompletionOptions) -> dict[str, Any]:
        """Return the position of ``start`` in the space, clipped to its ranges."""
        values = start.values()
        if values["bias_weight_decay"] is None:
            values["bias_weight_decay"] = values["weight_decay"]
        place = {}
        for name, tried in self.ranges.items():
            value = values[name]
            if _has_range(_OPTIONS[name]):
                lowest, highest = tried
                value = lowest if value is None else min(max(value, lowest), highest)
            place[name] = value
        return place


def _has_range(option: Option) -> bool:
    return option.kind is float


def _is_logarithmic(option: Option) -> bool:
    return option.most is None and option.below is None


def _checked(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if name not in _OPTIONS:
        raise ValueError(f"`{name}` must be an option of CompletionOptions, one of {', '.join(_OPTIONS)}")
    option = _OPTIONS[name]
    values = tuple(option.checked(name, value) for value in values)
    if not _has_range(option):
        if not values:
            raise ValueError(
                f"`{name}` must have choices, got none; leave it out if it is not to be searched"
            )
        return values
    if not (len(values) == 2 and values[0] < values[1]):
        raise ValueError(f"`{name}` must have a range (lowest, highest), got {values}")
    if _is_logarithmic(option) and values[0] <= 0:
        raise ValueError(f"`{name}` must have a range above 0, since its scale is logarithmic, got {values}")
    return values
