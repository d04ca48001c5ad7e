"""Which of the matrices that fit is found: one of minimum norm, of minimum rank, or neither."""
