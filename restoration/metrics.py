"""Quality metrics of a restoration, given the clean image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor


def _eight_bit(x: Tensor) -> np.ndarray:
    """``x`` in [-1, 1] rounded to 8 bits, as float64 (3, H, W) in [0, 1]."""
    x = x.detach().reshape(x.shape[-3:]).cpu().double().clamp(-1, 1)
    return ((x + 1) * 127.5).round().div(255).numpy()


def _scikit_image() -> Any:
    try:
        import skimage.metrics
    except ImportError as error:
        raise ValueError(
            f'PSNR and SSIM need the package {error.name!r}: pip install "flowdps[standalone]"'
        ) from error
    return skimage.metrics


def psnr(x: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of one image (1, 3, H, W) in [-1, 1], rounded to 8 bits.

    Infinite for identical images. Computed by scikit-image.
    """
    a, b = _eight_bit(clean), _eight_bit(x)
    if np.array_equal(a, b):
        return math.inf
    return float(_scikit_image().peak_signal_noise_ratio(a, b, data_range=1.0))


def ssim(x: Tensor, clean: Tensor) -> float:
    """Structural similarity (at most 1) of one image (1, 3, H, W) in [-1, 1], rounded to 8 bits.

    Computed by scikit-image with its 7 x 7 window; both sides must have at least 7 pixels.
    """
    ratio = _scikit_image().structural_similarity(
        _eight_bit(clean), _eight_bit(x), data_range=1.0, channel_axis=0
    )
    return float(ratio)
