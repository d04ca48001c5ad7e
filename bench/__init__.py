"""Benchmarks: the fused sweep beside its rivals and beside the machine's own limits, measured in one run."""
