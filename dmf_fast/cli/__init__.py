"""The command line: ``dmf-fast complete``, ``predict``, ``recommend``, ``reproduce`` and more."""
