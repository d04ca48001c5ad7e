"""``python -m dmf_fast.cli`` is ``dmf-fast``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, which Ctrl-C may end while it is still imported."""
    try:
        from dmf_fast.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
