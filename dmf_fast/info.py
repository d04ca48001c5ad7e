"""Versions, extras and active features of the installation: ``python -m dmf_fast.info``."""

from __future__ import annotations

import platform

import torch

import dmf_fast
from dmf_fast import _native, cuda, extras


def active_instruction_set() -> str:
    """Return the name of the instruction set that the CPU kernels use: generic, avx2 or avx512.

    The widest that the processor has, unless the environment variable ``DMF_FAST_INSTRUCTION_SET`` or
    :func:`set_instruction_set` chose another.

    Example:
        >>> active_instruction_set() in available_instruction_sets()
        True

    """
    return str(_native.active_instruction_set())


def available_instruction_sets() -> list[str]:
    """Return the instruction sets that this build and this processor have, narrowest first.

    Example:
        >>> available_instruction_sets()[0]
        'generic'

    """
    return list(_native.available_instruction_sets())


def set_instruction_set(name: str) -> None:
    """Make the CPU kernels of this process use the instruction set ``name``.

    Raises:
        ValueError: ``name`` is not among :func:`available_instruction_sets`.

    Example:
        >>> set_instruction_set(active_instruction_set())

    """
    _native.set_instruction_set(name)


def report() -> str:
    """Return versions, extras, instruction sets, threads and the state of CUDA as readable lines.

    Example:
        >>> print(report())  # doctest: +ELLIPSIS
        dmf_fast ...

    """
    facts = {
        "dmf_fast": f"{dmf_fast.__version__} ({_native.compiler}, built for torch {_native.built_for_torch})",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "extras": _extras(),
        "instruction set": f"{active_instruction_set()} (of {', '.join(available_instruction_sets())})",
        "threads": str(torch.get_num_threads()),
        "CUDA": _cuda(),
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items())


def _extras() -> str:
    by_extra: dict[str, list[str]] = {}
    for package, (_, extra) in extras.PACKAGES.items():
        by_extra.setdefault(extra, []).append(package)
    installed = [extra for extra, packages in by_extra.items() if all(map(extras.is_installed, packages))]
    missing = [extra for extra in by_extra if extra not in installed]
    names = ", ".join(installed) or "none"
    return f"{names} (not installed: {', '.join(missing)})" if missing else names


def _cuda() -> str:
    reason = cuda.missing_reason()
    if reason is not None:
        return f"no kernels: {reason}"
    if not torch.cuda.is_available():
        return f"kernels loaded (torch has CUDA {torch.version.cuda}), but torch finds no GPU"
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return f"kernels loaded (torch has CUDA {torch.version.cuda}): {names}"


if __name__ == "__main__":
    print(report())
