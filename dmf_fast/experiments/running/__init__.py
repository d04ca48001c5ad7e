"""Cached runs of experiments, and columns of their results."""
