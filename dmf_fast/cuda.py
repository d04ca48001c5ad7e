"""Whether the CUDA kernels are available and, if not, why and what to do."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

LIBRARY = Path(__file__).with_name("libdmf_fast_cuda.so")
_REMEDY = (
    "install the CUDA toolkit, then run `DMF_FAST_CUDA=on pip install --no-build-isolation .` in dmf_fast"
)


@lru_cache(maxsize=1)
def missing_reason() -> str | None:
    """Return None if the CUDA kernels are loaded, otherwise a clause with the reason.

    The first call loads their library.

    Example:
        >>> missing_reason() is None or "DMF_FAST_CUDA" in missing_reason() or "torch" in missing_reason()
        True

    """
    if torch.version.cuda is None:
        return (
            f"torch {torch.__version__} has no CUDA support; install a build that has it "
            "(https://pytorch.org/get-started)"
        )
    if not LIBRARY.is_file():
        return f"this dmf_fast was built without CUDA kernels; {_REMEDY}"
    try:
        torch.ops.load_library(LIBRARY)
    except OSError as error:
        return f"the CUDA kernels cannot be loaded ({error}); {_REMEDY}"
    return None


def check_usable(device: torch.device) -> None:
    """Raise an error if there are no kernels for ``device``.

    Raises:
        ValueError: there are no kernels for ``device``; the message gives the reason and a remedy.

    Example:
        >>> check_usable(torch.device("cpu"))

    """
    if device.type == "cpu":
        return
    reason = missing_reason() if device.type == "cuda" else "only cpu and cuda have kernels"
    if reason is not None:
        raise ValueError(
            f"`observations` must be on a device with kernels, got {device}: {reason}; "
            'or use observations.to("cpu")'
        )


# As torch.compiler.assume_constant_result does, without importing torch._dynamo, which takes a second. The
# answer never changes within a process.
check_usable._dynamo_marked_constant = True  # type: ignore[attr-defined]
