"""``python -m dmf_fast.cli`` is ``dmf-fast``."""

from __future__ import annotations

from dmf_fast.cli.app import main

if __name__ == "__main__":
    main()
