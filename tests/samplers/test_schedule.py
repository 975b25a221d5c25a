"""Noise levels that cannot be walked are refused in a sentence, however many they are."""

from __future__ import annotations

import math

import pytest
import torch
from comfyui_flowdps.samplers import published_sigmas
from comfyui_flowdps.samplers.schedule import check_sigmas


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        (torch.linspace(0, 1, 1000), "of 1000 sigmas, 0 is followed by 0.001001 (at place 1)"),
        (torch.tensor([1.0, 0.5, 0.5, 0.0]), "of 4 sigmas, 0.5 is followed by 0.5 (at place 2)"),
        (torch.tensor([1.0, math.nan, 0.0]), "1 is followed by nan"),
        (torch.tensor([14.6, 3.0, 0.0]), "the sigmas fall from 14.6 to 0"),
        (torch.tensor([1.0]), "there are 1 sigmas"),
    ],
)
def test_the_first_fault_is_named(sigmas, words):
    with pytest.raises(ValueError, match="expected numbers falling from 1 to 0") as refused:
        check_sigmas(sigmas)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 200


def test_the_published_ones_are_taken():
    check_sigmas(published_sigmas(28))
