"""The computation of a native step, as data for the kernels of all devices.

``csrc/kernels/descent/program.h`` explains it: matrices are numbered, first the factors, then the products
that the plan forms. Right of the split, everything is stored transposed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dmf_fast import _native
from dmf_fast.ops.planner import Order, Plan


@dataclass
class DescentProgram:
    """A plan as a list of products.

    Attributes:
        plan: the plan.
        matrices: ``(rows, columns)`` of each matrix as it is stored.
        products: ``(left, right, result)``, numbers of matrices, in the order of the forward pass.
        a: number of the matrix ``A``, or of ``W`` if it is formed.
        b_transposed: number of the matrix ``Bᵀ``; None if ``W`` is formed.

    Example:
        >>> from dmf_fast.ops.planner import plan_descent
        >>> program = DescentProgram(plan_descent((100, 100, 100, 100), 2000, "cpu"))
        >>> program.matrices[program.a], program.products
        ((100, 100), [(2, 1, 3)])

    """

    plan: Plan
    matrices: list[tuple[int, int]] = field(default_factory=list)
    products: list[tuple[int, int, int]] = field(default_factory=list)
    a: int = 0
    b_transposed: int | None = None

    def __post_init__(self) -> None:
        for factor in range(self.factors):
            rows, columns = self.plan.dims[factor + 1], self.plan.dims[factor]
            self.matrices.append((columns, rows) if self.keeps_transposed(factor) else (rows, columns))
        self.a = self._form(self.plan.left)
        if self.plan.right is not None:
            self.b_transposed = self._form(self.plan.right)

    @property
    def factors(self) -> int:
        """Number of factors, which are matrices 0 to factors − 1."""
        return len(self.plan.dims) - 1

    def keeps_transposed(self, factor: int) -> bool:
        """Return whether ``factor`` (from 0) is right of the split and so stored transposed."""
        return self.plan.split is not None and factor < self.plan.split

    def native(self) -> _native.DescentProgram:
        """Return the program in the form of the kernels."""
        b_transposed = -1 if self.b_transposed is None else self.b_transposed
        return _native.DescentProgram(self.factors, self.matrices, self.products, self.a, b_transposed)

    def _form(self, order: Order) -> int:
        """Add the products of ``order`` and return the number of their result."""
        if isinstance(order, int):
            return order
        left, right = (self._form(side) for side in order)
        if self.keeps_transposed(min(_leaves(order))):
            left, right = right, left
        self.matrices.append((self.matrices[left][0], self.matrices[right][1]))
        self.products.append((left, right, len(self.matrices) - 1))
        return len(self.matrices) - 1


def _leaves(order: Order) -> list[int]:
    return [order] if isinstance(order, int) else [leaf for side in order for leaf in _leaves(side)]
