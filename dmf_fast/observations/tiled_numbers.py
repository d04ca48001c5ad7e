"""Values and weights of observed entries, brought into tile order once for the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from dmf_fast.observations.layout import Layout
from dmf_fast.observations.pattern import Pattern


class TiledNumbers:
    """Values and weights at the positions of a pattern, all on one device; thread-safe.

    They are stored in the caller's order until the first call of `layout`, which replaces them by numbers in
    tile order.

    Attributes:
        weighted: whether there are weights.

    """

    __slots__ = ("_built", "_layout", "_pattern", "_values", "_weights", "weighted")

    def __init__(self, pattern: Pattern, values: Tensor, weights: Tensor | None) -> None:
        """Store checked numbers, ``(nnz,)`` in the caller's order, without a copy."""
        self._pattern, self.weighted = pattern, weights is not None
        # Kept until the layout holds them.
        self._values: Tensor | None = values
        self._weights = weights
        self._layout: Layout | None = None
        self._built = False

    @classmethod
    def of_layout(cls, pattern: Pattern, layout: Layout) -> TiledNumbers:
        """Return the numbers of an existing layout, whose tensors must have been checked."""
        numbers = cls(pattern, layout.values, layout.weights)
        numbers._values = numbers._weights = None
        numbers._layout, numbers._built = layout, True
        return numbers

    def values(self) -> Tensor:
        """Return the values in the caller's order, a new tensor."""
        values = self._values  # read once: another thread may be building the layout
        return self._pattern.to_caller_order(self.layout().values) if values is None else values.clone()

    def weights(self) -> Tensor | None:
        """Return the weights in the caller's order, a new tensor; None if there are none."""
        if not self.weighted:
            return None
        weights = self._weights
        if weights is not None:
            return weights.clone()
        tiled = self.layout().weights
        assert tiled is not None
        return self._pattern.to_caller_order(tiled)

    def layout(self) -> Layout:
        """Return the layout, built at the first call; see `Observations.layout`."""
        # torch.compile cannot trace a lock. It traces a call more than once and expects equal graphs, so
        # nothing here may depend on whether the layout existed before.
        self._build()
        assert self._layout is not None
        return self._layout

    def _build(self) -> None:
        if self._built:
            return
        pattern = self._pattern
        # The layout must not belong to the mode or transform (torch.func) of its first use.
        with pattern.lock, torch.inference_mode(False), torch._C._DisableFuncTorch():
            if self._built:
                return
            assert self._values is not None
            device = self._values.device
            buffer = pattern.buffer(device)  # the pattern holds that of a GPU only weakly
            values = pattern.to_tile_order(self._values)
            weights = None if self._weights is None else pattern.to_tile_order(self._weights)
            if device.type == "cuda":
                # The next reader may use another stream.
                torch.cuda.current_stream(device).synchronize()
            # The order matters, since other threads read without the lock.
            self._layout = Layout(buffer, values, weights)
            self._built = True
            self._values = self._weights = None

    # As torch.compiler.assume_constant_result does, without importing torch._dynamo, which takes a second: a
    # function compiled before the layout is built builds it during tracing. It is a method because torch 2.11
    # passes such a function only the object that it is called on.
    _build._dynamo_marked_constant = True  # type: ignore[attr-defined]
