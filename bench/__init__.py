"""Benchmarks: the fused sweep compared with its rivals and with the machine's limits, measured in one run."""
