"""Held-out ratings of MovieLens 100K."""
