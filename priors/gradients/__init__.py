"""Gradients through the networks of a prior, within the memory there is."""
