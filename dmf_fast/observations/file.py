"""Saving observations with their layout to a file, so that a later run can start at once."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dmf_fast import _native
from dmf_fast.checks import printable
from dmf_fast.files.reading import reading
from dmf_fast.files.tensors import load_tensors, save_tensors
from dmf_fast.observations.layout import Layout
from dmf_fast.observations.observations import Observations
from dmf_fast.observations.pattern import Pattern
from dmf_fast.observations.validation import DTYPES, check_finite, check_not_negative

_FORMAT = "dmf_fast observations"
_VERSION = "2"


def save_observations(observations: Observations, path: str | os.PathLike[str]) -> None:
    """Write ``observations`` and their layout to a safetensors file of about 15 bytes per float32 entry.

    The file is written atomically and replaces an existing one. It holds the CPU layout, whatever the device
    of the observations.

    Args:
        observations: what to save.
        path: where to save it.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile, dmf_fast
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dmf_fast.save_observations(dmf_fast.Observations([0], [1], [2.5]), f"{folder}/ratings")
        ...     dmf_fast.load_observations(f"{folder}/ratings").values
        tensor([2.5000])

    """
    layout = observations.to("cpu").layout()
    # As int64, so that it is aligned to 8 bytes in the file.
    tensors = {"layout": layout.buffer.view(torch.int64), "values": layout.values}
    if layout.weights is not None:
        tensors["weights"] = layout.weights
    save_tensors(tensors, Path(path), _FORMAT, _VERSION)


@torch.inference_mode(False)  # so that observations loaded in inference mode can be trained on
def load_observations(path: str | os.PathLike[str]) -> Observations:
    """Load observations that :func:`save_observations` wrote, onto the CPU, by mapping the file into memory.

    Pages are loaded as the kernels read them and may be evicted again, so the file must not change while the
    observations are in use. The bytes are verified against their digest, which takes about one second per
    gigabyte, and all indices are checked once, in parallel.

    Args:
        path: the file.

    Returns:
        The observations, on the CPU.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, not a file of observations, or of another version.
        MemoryError: there is not enough memory to check the file.

    Example:
        See :func:`save_observations`.

    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{printable(path)} does not exist; write it with save_observations")
    with reading(path, "a file of observations", "rebuild and save the observations again"):
        layout = _mapped(path)
        facts = _native.describe_layout(layout.buffer.numpy())
        nnz = facts["nnz"]
        for name, numbers in (("values", layout.values), ("weights", layout.weights)):
            if numbers is None:
                continue
            if numbers.shape != (nnz,) or numbers.dtype != layout.values.dtype:
                raise ValueError(f"{name} must hold one number for each of its {nnz} entries")
            check_finite(name, numbers, numbers)
        if layout.weights is not None:
            check_not_negative("weights", layout.weights)
        pattern = Pattern.of_layout(layout.buffer, (facts["rows"], facts["columns"]), nnz)
        return Observations._of_layout(pattern, layout)


def _mapped(path: Path) -> Layout:
    """Return the tensors of the file."""
    tensors, version = load_tensors(path, _FORMAT)
    if version != _VERSION:
        raise ValueError(f"its version is {version}, but this dmf_fast reads version {_VERSION}")
    buffer, values = tensors.pop("layout"), tensors.pop("values")
    weights = tensors.pop("weights", None)
    if tensors or buffer.dtype != torch.int64 or buffer.ndim != 1 or values.dtype not in DTYPES:
        raise ValueError("it must hold layout, values and weights")
    buffer = buffer.view(torch.uint8)
    if not _native.layout_is_sound(buffer.numpy(), torch.get_num_threads()):
        raise ValueError("its layout is invalid or of another version")
    return Layout(buffer, values, weights)
