"""PSNR and SSIM on images whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from comfyui_flowdps.restoration import metrics


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error():
    x = torch.zeros(1, 3, 16, 16)
    # 51 of 255 levels wrong everywhere: 20 log10(255 / 51).
    assert metrics.psnr(x - 1 + 0.4, x - 1) == pytest.approx(20 * math.log10(5), abs=1e-9)


def test_psnr_of_the_same_picture_is_infinite():
    x = noise(1, 3, 16, 24).clamp(-1, 1)
    assert metrics.psnr(x, x) == math.inf


def test_scores_are_those_of_the_files_that_are_written():
    x = noise(1, 3, 16, 24) * 2
    written = ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    clean = noise(1, 3, 16, 24, seed=1).clamp(-1, 1)
    assert metrics.psnr(x, clean) == pytest.approx(metrics.psnr(written, clean), abs=1e-9)
    assert metrics.ssim(x, clean) == pytest.approx(metrics.ssim(written, clean), abs=1e-9)


def test_ssim_is_one_for_the_same_and_falls_with_noise():
    x = torch.linspace(-1, 1, 24).expand(1, 3, 20, 24).contiguous()
    some, much = (metrics.ssim(x + s * noise(*x.shape), x) for s in (0.05, 0.3))
    assert metrics.ssim(x, x) == pytest.approx(1)
    assert 0 < much < some < 1
