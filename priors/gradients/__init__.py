"""Memory-saving gradients through the networks of a prior."""
