"""Runs of experiments that are kept in a folder, and columns of their results."""
