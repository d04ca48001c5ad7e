"""One unit of weight decay for all depths.

The L2 decay of balanced factors is a penalty on the singular values s of their product, the Schatten-2/N
quasi-norm: ``(λ_N/2) Σ_j ‖W_j‖² = (N λ_N / 2) Σ s^(2/N)``. Its slope, ``λ_N s^(2/N − 1)``, pulls a singular
value down, while the gradient g of the loss pulls it up. The same λ_N therefore means something different at
every depth; ``λ_N = λ · u · s_ref^(1 − 2/N)`` has the slope ``λ u`` at s_ref for every depth, where u is
about the pull of the noise. `docs/theory.md` derives it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from dmf_fast.completion.coordinates import Coordinates
from dmf_fast.completion.gradient import LEADING, LeadingDirections

# Ratio of the median of the 64 leading singular values to the norm of the noise, as on MovieLens 100K.
_MEDIAN_TO_NOISE = 0.39
# Fraction of the singular value at which the noise balances the curvature of the loss.
_PART_OF_NOISE = 0.03
# Where slopes agree for factors of a split product, relative to a noise singular value of the product.
_ABOVE_NOISE = 15.0
_LEAST_OF_NOISE = 5e-3  # relative to the reference of the start


@dataclass(frozen=True)
class DecayUnit:
    """The unit of ``weight_decay``.

    Attributes:
        noise: ``u``, the noise in the gradient with respect to the product.
        reference: ``s_ref``, the singular value of the product at which the unit means the same at all
            depths.

    """

    noise: float
    reference: float

    def at_depth(self, depth: int) -> float:
        """Return the unit of the decay of each of ``depth`` factors.

        >>> DecayUnit(0.5, 16.0).at_depth(2), DecayUnit(0.5, 16.0).at_depth(4)
        (0.5, 2.0)
        """
        return self.noise * self.reference ** (1 - 2 / depth) if self.reference else 0.0

    def least_surviving(self, weight_decay: float, gradient: float, depth: int) -> float:
        """Return the smallest singular value, relative to the reference, that grows at depth 3 or more.

        A direction in which the gradient pulls with g grows if g exceeds the slope of the penalty,
        ``λ u (s_ref/s)^(1 − 2/N)``: from ``s = s_ref (λ u / g)^(N/(N−2))`` on. At most 1 is returned.

        >>> round(DecayUnit(1.0, 5.0).least_surviving(0.2, gradient=0.4, depth=3), 6)
        0.125
        """
        pull: float = weight_decay * self.noise / gradient
        return min(1.0, math.pow(pull, depth / (depth - 2)))

    @classmethod
    def of_start(cls, directions: LeadingDirections, coordinates: Coordinates) -> DecayUnit:
        """Return the unit for factors that start near zero, from the gradient there.

        The mean loss of m × n entries has the curvature ``2c²/(m n)``: noise that pulls with u is balanced
        at the singular value ``u m n / (2c²)``. The reference is a small fraction of that.
        """
        noise = directions.noise / _MEDIAN_TO_NOISE
        rows, columns = coordinates.shape
        return cls(noise, _PART_OF_NOISE * noise * rows * columns / (2 * coordinates.spread**2))

    def of_product(self, directions: LeadingDirections, singular_values: Tensor) -> DecayUnit:
        """Return the unit for the factors of a product that is split.

        The 32nd singular value of a product of depth 2, or the last one, counts as noise. Above it, at the
        reference, the decay pulls equally at all depths; below, it pulls harder the deeper the chain.

        Args:
            directions: of the gradient, to which the noise belongs.
            singular_values: ``(k,)`` of the product, in descending order.

        Raises:
            IndexError: there are no singular values.

        """
        place = min(LEADING // 2, len(singular_values)) - 1
        floor = _LEAST_OF_NOISE * self.reference
        of_noise = max(singular_values[place].item(), floor)
        return DecayUnit(directions.noise / _MEDIAN_TO_NOISE, _ABOVE_NOISE * of_noise)
