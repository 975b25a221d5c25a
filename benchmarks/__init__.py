"""``flowdps bench``: all methods and classical baselines on the held-out pictures."""

from .command import (
    HELD_OUT,
    add_arguments,
    classical_measurement,
    measure,
    measurement_picture,
    pictures,
    run,
)
from .results import mean_psnr

__all__ = [
    "HELD_OUT",
    "add_arguments",
    "classical_measurement",
    "mean_psnr",
    "measure",
    "measurement_picture",
    "pictures",
    "run",
]
