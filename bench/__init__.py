"""``flowdps bench``: the methods on the held-out pictures, beside classical baselines."""

from .results import mean_psnr
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
