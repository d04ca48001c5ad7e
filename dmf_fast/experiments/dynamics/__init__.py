"""How singular values and singular vectors move along gradient descent."""
