"""Atomic files and folders, checkpoints, locks and digests."""
