import enum
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

compiler: str
built_for_torch: str

class LayoutFacts(TypedDict):
    rows: int
    columns: int
    nnz: int
    tile_rows: int
    tile_columns: int
    tiles: int
    stripes: int
    position_offset: int
    position_bytes: int

class LayoutBuilder32:
    def __init__(
        self,
        rows: NDArray[np.int32],
        columns: NDArray[np.int32],
        row_count: int,
        column_count: int,
        threads: int,
    ) -> None: ...
    @property
    def bytes(self) -> int: ...
    def write(self, buffer: NDArray[np.uint8]) -> None: ...

class LayoutBuilder64:
    def __init__(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        row_count: int,
        column_count: int,
        threads: int,
    ) -> None: ...
    @property
    def bytes(self) -> int: ...
    def write(self, buffer: NDArray[np.uint8]) -> None: ...

class DeviceLayoutFacts(TypedDict):
    bytes: int
    has_masks: bool
    row_blocks: int
    column_blocks: int
    slots: int

device_max_lines: int
device_max_nnz: int
widest_tile: int
most_best_columns: int

def describe_device_layout(rows: int, columns: int, nnz: int) -> DeviceLayoutFacts: ...
def has_repeated_pairs(
    rows: NDArray[np.int32], columns: NDArray[np.int32], row_count: int, column_count: int, threads: int
) -> bool: ...
def describe_layout(buffer: NDArray[np.uint8]) -> LayoutFacts: ...
def layout_is_sound(buffer: NDArray[np.uint8], threads: int) -> bool: ...
def decode_layout(buffer: NDArray[np.uint8], threads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def available_instruction_sets() -> list[str]: ...
def active_instruction_set() -> str: ...
def refused_instruction_set() -> str: ...
def set_instruction_set(name: str) -> None: ...

class RuleKind(enum.IntEnum):
    gradient_descent = 0
    group_rmsprop = 1
    adam = 2
    adaptive_gradient_descent = 3
    preconditioned_lbfgs = 4

class Part(enum.IntEnum):
    parameter = 0
    first_moment = 1
    second_moment = 2
    kept = 3

class Outcome(enum.IntEnum):
    reached = 0
    paused = 1
    train_loss_threshold = 2
    gradient_norm_threshold = 3
    diverged = 4

class Rule:
    def __init__(
        self,
        kind: RuleKind,
        *,
        lr: float,
        weight_decay: float = 0.0,
        bias_weight_decay: float = 0.0,
        momentum: float = 0.0,
        alpha: float = 0.0,
        beta1: float = 0.0,
        beta2: float = 0.0,
        eps: float = 0.0,
        gradient_clip: float = 0.0,
        decay_rate: float = 1.0,
        decay_after: float = 0.0,
        concavity: float = 0.0,
        knee: float = 1.0,
    ) -> None: ...
    @property
    def moments(self) -> int: ...

class DescentProgram:
    def __init__(
        self,
        factors: int,
        matrices: list[tuple[int, int]],
        products: list[tuple[int, int, int]],
        a: int,
        b_transposed: int,
    ) -> None: ...

class _ObservedEntries:
    def __init__(
        self,
        layout: NDArray[np.uint8],
        values: NDArray[np.floating],
        weights: NDArray[np.floating] | None,
    ) -> None: ...

class ObservedEntries32(_ObservedEntries): ...
class ObservedEntries64(_ObservedEntries): ...

class _Descent:
    def __init__(
        self,
        program: DescentProgram,
        train: Sequence[_ObservedEntries],
        *,
        loss_scale: float,
        rule: Rule,
        mean: float = 0.0,
        biases: bool = False,
        scales: Sequence[NDArray[np.floating] | None] = (),
        curvatures: Sequence[NDArray[np.floating] | None] = (),
        threads: int = 1,
        ranks: Callable[[list[NDArray[np.floating]]], None] | None = None,
    ) -> None: ...
    def run(self, until: int, train_loss: float, gradient_norm: float, most_seconds: float) -> Outcome: ...
    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def gradient_norm(self) -> float: ...
    @property
    def parameters(self) -> int: ...
    def mean_squared_error(self, entries: Sequence[_ObservedEntries]) -> float: ...
    def keep(self) -> None: ...
    def read(self, part: Part, parameter: int) -> NDArray[np.floating]: ...
    def write(self, part: Part, parameter: int, numbers: NDArray[np.floating]) -> None: ...
    def scalars(self) -> list[float]: ...
    def resume_from(self, step: int, scalars: list[float]) -> None: ...

class Descent32(_Descent): ...
class Descent64(_Descent): ...
class TooLargeForBlock(ValueError): ...

class _BlockRun:
    def __init__(
        self,
        program: DescentProgram,
        shape: tuple[int, int],
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.floating],
        weights: NDArray[np.floating] | None,
        scale: float,
        total_weight: float,
        rule: Rule,
        train_loss: float,
        gradient_norm: float,
        shared_limit: int,
    ) -> None: ...
    def place(self, part: Part, factor: int) -> tuple[int, int, int, int]: ...
    def memory(self) -> NDArray[np.floating]: ...
    def state(self) -> NDArray[np.void]: ...
    @property
    def shared_bytes(self) -> int: ...
    @property
    def cycles(self) -> float: ...

class BlockRun32(_BlockRun): ...
class BlockRun64(_BlockRun): ...
