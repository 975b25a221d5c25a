"""Combs of old video, and detail that an enlarged photo lacks."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves
from comfyui_flowdps.estimation.combing import combed
from comfyui_flowdps.estimation.fineness import could_be_smaller
from torch.nn.functional import avg_pool2d, interpolate

SCENE = dead_leaves(256, 1)


def test_lines_from_two_instants_are_combs():
    y = SCENE.clone()
    y[:, :, 1::2] = SCENE.roll(5, 3)[:, :, 1::2]
    assert combed(y) > 0.05
    assert combed(SCENE) == 0
    assert combed(y.transpose(2, 3)) == 0, "columns are no lines"


@pytest.mark.parametrize("level", [0.01, 0.1, 0.3])
def test_noise_is_no_comb(level):
    noise = torch.randn(SCENE.shape, generator=torch.Generator().manual_seed(0))
    assert combed(SCENE + level * noise) == 0


def test_a_weave_of_lines_and_columns_is_no_comb():
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    assert combed(0.5 * (-1.0) ** (rows + columns)[None, None]) == 0


@pytest.mark.parametrize("scale", [2, 4])
def test_an_enlarged_photo_could_be_smaller(scale):
    small = avg_pool2d(SCENE, scale)
    spectrum = torch.fft.fftshift(torch.fft.fft2(small), (2, 3))
    pad = (256 - 256 // scale) // 2
    wide = torch.nn.functional.pad(spectrum, (pad, pad, pad, pad))
    large = torch.fft.ifft2(torch.fft.ifftshift(wide, (2, 3))).real * scale**2
    assert could_be_smaller(large) == scale
    assert could_be_smaller(interpolate(large, scale_factor=2, mode="bicubic")) > scale
    assert could_be_smaller(SCENE) == 1


def test_a_flat_photo_says_nothing():
    flat = torch.zeros(1, 3, 64, 64)
    assert could_be_smaller(flat) == 1
    assert combed(flat) == 0
