"""``flowdps bench``: the methods on the held-out pictures, beside classical baselines."""

from .command import (
    HELD_OUT,
    add_arguments,
    classical,
    generators,
    looks,
    measure,
    pictures,
    run,
)
from .results import mean_psnr

__all__ = [
    "HELD_OUT",
    "add_arguments",
    "classical",
    "generators",
    "looks",
    "mean_psnr",
    "measure",
    "pictures",
    "run",
]
