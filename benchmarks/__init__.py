"""``flowdps bench``: the methods on the held-out pictures, beside classical baselines."""

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
