"""Which options are searched for, and between what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dmf_fast.completion import CompletionOptions
from dmf_fast.options import Option, options_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_OPTIONS = options_of(CompletionOptions)
# Widths that are multiples of 16 are fastest.
_RANGES: dict[str, tuple[Any, ...]] = {
    "weight_decay": (0.02, 1.0),
    "bias_weight_decay": (0.002, 1.0),
    "degree_exponent": (0.0, 1.0),
    "hidden": (16, 32, 64, 128),
}


@dataclass(frozen=True)
class SearchSpace:
    """What is tried for the options of a `CompletionOptions` that are searched for; the others stay.

    A real number has a range, on a logarithmic scale where the option has no upper bound; every other option
    has choices.

    Attributes:
        ranges: ``(lowest, highest)`` or choices by the name of the option. The defaults are for ratings.

    Raises:
        ValueError: a name is of no option, a range is empty or out of the option's bounds, or reaches 0 where
            the scale is logarithmic.
        TypeError: a value is not of the option's type.

    Example:
        >>> list(SearchSpace({"depth": (2, 3), "lr": (1e-3, 1.0)}).ranges)
        ['depth', 'lr']

    """

    ranges: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: dict(_RANGES))

    def __post_init__(self) -> None:
        checked = {name: _checked(name, values) for name, values in self.ranges.items()}
        object.__setattr__(self, "ranges", checked)

    def changed(self, **ranges: tuple[Any, ...] | None) -> SearchSpace:
        """Return the space with other ranges of some options; None leaves an option as it is.

        >>> list(SearchSpace().changed(hidden=None, init_scale=None, depth=(1, 2)).ranges)
        ['weight_decay', 'bias_weight_decay', 'degree_exponent', 'depth']
        """
        merged = {**self.ranges, **ranges}
        return SearchSpace({name: values for name, values in merged.items() if values is not None})

    def distributions(self, start: CompletionOptions) -> dict[str, BaseDistribution]:
        """Return the space for Optuna, with the choices that ``start`` makes among them."""
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
        """Return where ``start`` lies in the space; what lies outside is moved to its border."""
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
                f"`{name}` must have choices, got none; leave it out where it is not searched for"
            )
        return values
    if not (len(values) == 2 and values[0] < values[1]):
        raise ValueError(f"`{name}` must have a range (lowest, highest), got {values}")
    if _is_logarithmic(option) and values[0] <= 0:
        raise ValueError(f"`{name}` must have a range above 0, as its scale is logarithmic, got {values}")
    return values
