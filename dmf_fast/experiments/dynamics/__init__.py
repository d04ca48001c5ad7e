"""How singular values and singular vectors evolve during gradient descent."""
