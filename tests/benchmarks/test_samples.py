"""The calibration of several samples, where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from comfyui_flowdps.benchmarks.samples import factor, line
from comfyui_flowdps.restoration.several import Several


def drawn(samples: int, narrow: float = 1.0) -> list[tuple[torch.Tensor, Several]]:
    """Truths and samples around the same means, with deviations that differ from pixel to pixel.

    The samples' deviation is ``narrow`` times that of the truth.
    """
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(2):
        width = 0.02 + 0.2 * torch.rand(1, 1, 96, 96, generator=g)
        truth = width * torch.randn(1, 3, 96, 96, generator=g)
        images = narrow * width * torch.randn(samples, 3, 96, 96, generator=g)
        found.append((truth, Several(images, [1.0] * samples)))
    return found


@pytest.mark.parametrize("samples", [2, 8])
def test_the_factor_of_true_samples_is_known(samples):
    assert factor(drawn(samples)) == pytest.approx(math.sqrt(1 + 1 / samples), rel=0.02)


def test_the_factor_makes_up_for_samples_that_are_too_alike():
    alike = drawn(8, narrow=0.25)
    scale = factor(alike)
    assert scale == pytest.approx(math.sqrt(16 + 1 / 8), rel=0.02)
    cells = [cell.strip() for cell in line("test", "any", alike, scale).split("|")[1:-1]]
    assert len(cells) == 12
    within, correlation = float(cells[7].rstrip("%")), float(cells[8])
    assert within > 95
    assert correlation > 0.5
    assert float(line("test", "any", alike, 1.0).split("|")[8].strip().rstrip("%")) < 50
