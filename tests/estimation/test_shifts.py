"""The motion of a camera between frames, and the brightness of frames that flicker."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves
from comfyui_flowdps.estimation.brightness import brightness, flicker_gains
from comfyui_flowdps.estimation.shifts import camera_motion, composed, moved, reversed_, still


def motion(zoom=1.0, right=0.0, down=0.0, turn=0.0):
    """In coordinates from -1 to 1."""
    c, s = torch.cos(torch.tensor(turn)) * zoom, torch.sin(torch.tensor(turn)) * zoom
    return torch.stack(
        [torch.stack([c, -s, torch.tensor(right)]), torch.stack([s, c, torch.tensor(down)])]
    )[None]


MOTIONS = {
    "none": motion(),
    "pan": motion(right=0.06, down=-0.02),
    "zoom": motion(zoom=0.97),
    "turn": motion(turn=0.03),
}


def inner(x):
    return x[..., 10:-10, 10:-10]


@pytest.mark.parametrize("theta", MOTIONS.values(), ids=MOTIONS)
def test_the_camera_s_motion_is_found_in_noise(theta):
    """The frame that is moved back lies over the other one."""
    x = torch.nn.functional.avg_pool2d(dead_leaves(192, 3), 2)
    other = moved(x, theta)
    g = torch.Generator().manual_seed(0)
    noisy = [a + 0.05 * torch.randn(a.shape, generator=g) for a in (other, x)]
    found = camera_motion(*noisy)
    # In pixels of 96 a side, at the corners.
    corners = torch.tensor([[-1.0, -1, 1], [1, 1, 1], [1, -1, 1]]).T
    apart = ((found - theta) @ corners * 48).norm(dim=1)
    assert float(apart.max()) < 0.7
    assert float((inner(moved(x, found)) - inner(other)).square().mean().sqrt()) < 0.08


def test_motions_are_composed_and_reversed():
    a, b = MOTIONS["zoom"], MOTIONS["pan"]
    both, x = composed(a, b), torch.tensor([0.3, -0.4, 1])
    torch.testing.assert_close(both[0] @ x, b[0] @ torch.cat([a[0] @ x, torch.ones(1)]))
    torch.testing.assert_close(composed(both, reversed_(both)), still(1), atol=1e-6, rtol=0)


def test_flicker_is_what_differs_from_the_frames_around():
    gains = torch.tensor([1, 0.8, 1.2, 0.9, 1.0, 1.1] * 5, dtype=torch.float64)
    fade = torch.linspace(0.5, 1.0, 30, dtype=torch.float64)
    found = flicker_gains(gains * fade)
    even = gains / found
    assert float(even[5:-5].std() / even.mean()) < 0.02
    torch.testing.assert_close(
        flicker_gains(fade)[5:-5], torch.ones(20).double(), atol=0.03, rtol=0
    )


def test_brightness_is_counted_from_black():
    x = dead_leaves(48, 1)
    torch.testing.assert_close(brightness((x + 1) * 0.5 - 1), brightness(x) / 2)
