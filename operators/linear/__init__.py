"""Linear operators: the algebra, iterative solvers and closed forms."""
