"""The raw operators, their gradients, the public functions, and the planner for chains."""
