"""How well a matrix of low rank is recovered from few of its entries or from few measurements."""
