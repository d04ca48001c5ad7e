"""What the tests of the command line share: quick options, and results as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from click.testing import Result

Run = Callable[..., Result]
QUICK = ("--depth", "2", "--hidden", "4", "--steps", "60", "--evaluate-every", "10", "--quiet")
MODEL = "model-depth-2.safetensors"


def json_of(result: Result) -> dict[str, Any]:
    """Return what a command that has ended well printed with ``--json``."""
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))
