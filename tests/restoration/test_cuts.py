"""Cuts of drawn films: they are found, and what else changes between frames is none."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves
from comfyui_flowdps.operators import Fields
from comfyui_flowdps.restoration.cuts import shots


def pan(seed, frames, speed=2, side=64):
    scene = dead_leaves(160, seed)
    return [scene[..., 8:72, speed * k : speed * k + side] for k in range(frames)]


def noisy(frames, level=0.1, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [x + level * torch.randn(x.shape, generator=g) for x in frames]


def found(frames):
    return [k for k, (begins, _) in enumerate(shots(frames)) if begins]


@pytest.mark.parametrize("level", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_cuts_are_found_and_nothing_else(seed, level):
    film = pan(3 * seed, 6) + pan(3 * seed + 1, 5, speed=0) + pan(3 * seed + 2, 7, speed=6)
    assert found(noisy(film, level)) == [0, 6, 11]


def test_flicker_and_fades_are_no_cuts():
    film = [(x + 1) * gain - 1 for x, gain in zip(pan(1, 8), [1, 0.6, 1.2, 0.9] * 2, strict=True)]
    assert found(noisy(film)) == [0]
    dark = [(pan(2, 1)[0] + 1) * (1 - k / 20) - 1 for k in range(20)]
    assert found(dark) == [0]


def test_interlaced_shots():
    film = torch.cat(pan(4, 8, speed=3) + pan(5, 8, speed=1))
    frames = Fields().bind(tuple(film.shape[1:])).A(film).split(1)
    assert found(noisy(frames)) == [0, 4]


def test_a_flash_is_two_cuts_at_most():
    film = pan(1, 9)
    film[4] = torch.full_like(film[4], 0.95)
    assert set(found(film)) <= {0, 4, 5}


def test_frames_without_detail():
    assert found([torch.zeros(1, 3, 32, 32)] * 4) == [0]
