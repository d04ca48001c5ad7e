"""Recovery of low-rank matrices from few entries or few measurements."""
