"""The command line: ``dmf-fast complete``, ``predict``, ``recommend``, ``reproduce`` and ``info``."""

from __future__ import annotations

from dmf_fast.cli.app import main

__all__ = ["main"]
