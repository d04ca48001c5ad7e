"""``python -m dmf_fast.cli`` is ``dmf-fast``."""

from __future__ import annotations

import sys

from dmf_fast.extras import PACKAGES, MissingExtraError, require


def main() -> None:
    """Run the command line, which Ctrl-C may end while it is still imported."""
    try:
        # All of them now: the end of a long training is too late to find one missing.
        require("`dmf-fast`", *(name for name, (_, extra) in PACKAGES.items() if extra == "cli"))
        from dmf_fast.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    except MissingExtraError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
