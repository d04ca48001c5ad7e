"""Which settings are searched for, and between what."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from dmf_fast.completion import CompletionOptions

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Range = tuple[float, float]

_LOGARITHMIC = ("weight_decay", "bias_weight_decay", "init_scale")


@dataclass(frozen=True)
class SearchSpace:
    """Ranges and choices of the settings that are searched for; None leaves a setting as it is.

    Attributes:
        weight_decay: lowest and highest, tried on a logarithmic scale, as ``bias_weight_decay`` and
            ``init_scale``.
        bias_weight_decay: that of the biases.
        degree_exponent: lowest and highest.
        init_scale: size of an entry of the product at the start.
        hidden: widths to choose from; multiples of 16 are fastest.
        depth: depths to choose from.

    Raises:
        ValueError: a range is empty, or reaches 0 where the scale is logarithmic.

    Example:
        >>> SearchSpace(hidden=None, init_scale=None).searched
        ('weight_decay', 'bias_weight_decay', 'degree_exponent')

    """

    weight_decay: Range | None = (0.02, 1.0)
    bias_weight_decay: Range | None = (0.002, 1.0)
    degree_exponent: Range | None = (0.0, 1.0)
    init_scale: Range | None = (1e-6, 3e-3)
    hidden: tuple[int, ...] | None = (16, 32, 64, 128)
    depth: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in self.searched:
            values = getattr(self, name)
            if name in ("hidden", "depth"):
                if not values:
                    raise ValueError(f"{name} must name choices, or be None, but none came.")
            elif not (len(values) == 2 and values[0] < values[1]):
                raise ValueError(f"{name} must be (lowest, highest), or None, but {values} came.")
            elif name in _LOGARITHMIC and values[0] <= 0:
                raise ValueError(
                    f"{name} is searched on a logarithmic scale: its range must be above 0, not {values}."
                )

    @property
    def searched(self) -> tuple[str, ...]:
        """The names of the settings that are searched for."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    def without(self, *names: str) -> SearchSpace:
        """Return the space in which these settings stay as they are.

        >>> SearchSpace().without("hidden").hidden is None
        True
        """
        return replace(self, **dict.fromkeys(names))

    def distributions(self, start: CompletionOptions) -> dict[str, BaseDistribution]:
        """Return the space for Optuna, with the choices that ``start`` makes among them."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        found: dict[str, BaseDistribution] = {}
        for name in self.searched:
            values = getattr(self, name)
            if name in ("hidden", "depth"):
                found[name] = CategoricalDistribution(tuple(dict.fromkeys((*values, getattr(start, name)))))
            else:
                found[name] = FloatDistribution(values[0], values[1], log=name in _LOGARITHMIC)
        return found

    def place_of(self, start: CompletionOptions) -> dict[str, Any]:
        """Return where ``start`` lies in the space; what lies outside is moved to its border."""
        place: dict[str, Any] = {}
        for name in self.searched:
            value = getattr(start, name)
            if name == "bias_weight_decay" and value is None:
                value = start.weight_decay
            if name not in ("hidden", "depth"):
                lowest, highest = getattr(self, name)
                value = min(max(value, lowest), highest)
            place[name] = value
        return place
