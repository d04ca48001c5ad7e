"""Which of the matrices that fit is found: one of least norm, of least rank, or neither."""
