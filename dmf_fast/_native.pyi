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

def describe_device_layout(rows: int, columns: int, nnz: int) -> DeviceLayoutFacts: ...
def describe_layout(buffer: NDArray[np.uint8]) -> LayoutFacts: ...
def layout_is_sound(buffer: NDArray[np.uint8], threads: int) -> bool: ...
def decode_layout(buffer: NDArray[np.uint8], threads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def available_instruction_sets() -> list[str]: ...
def active_instruction_set() -> str: ...
def refused_instruction_set() -> str: ...
def set_instruction_set(name: str) -> None: ...
