"""What is known of the demo prior beside its weights."""

from __future__ import annotations

from .base import VelocityErrors

DEMO_VELOCITY_ERRORS: VelocityErrors = (
    (1.0, 1.170),
    (0.99, 1.146),
    (0.97, 1.093),
    (0.94, 1.020),
    (0.9, 0.929),
    (0.85, 0.855),
    (0.8, 0.764),
    (0.7, 0.524),
    (0.6, 0.392),
    (0.5, 0.342),
    (0.4, 0.327),
    (0.3, 0.339),
    (0.2, 0.394),
    (0.1, 0.544),
    (0.05, 0.698),
    (0.01, 0.930),
)
"""Measured on the 16 tuning pictures by ``benchmarks/velocity_error.py``."""
