"""The operators: raw ones, their gradients, the public functions, and the plan of a chain."""
