"""Flicker: how bright every frame of a film is, compared with those around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 12
"""Frames before and after one, of which the usual brightness is taken."""


@torch.no_grad()
def brightness(x: Tensor) -> Tensor:
    """The light of frames x (N, C, H, W) in [-1, 1] above black, (N,), without its ends."""
    light = (x.float() + 1).mean(1).flatten(1).sort(1).values
    cut = light.shape[1] // 10
    return light[:, cut : light.shape[1] - cut].mean(1).clamp(min=1e-3)


def flicker_gains(light: Tensor, reach: int = REACH) -> Tensor:
    """The gains (N,) by which frames of brightness ``light`` (N,) differ from what is usual around
    them: the mean of the logarithms within ``reach`` frames, with smooth weights.

    A slow change of the light, as in a pan, is no flicker.
    """
    logs = light.log()
    weight = (torch.arange(-reach, reach + 1) / (reach + 1) * torch.pi / 2).cos().square().to(logs)
    total = F.conv1d(F.pad(logs[None, None], (reach, reach)), weight[None, None])[0, 0]
    count = F.conv1d(F.pad(torch.ones_like(logs)[None, None], (reach, reach)), weight[None, None])
    return (logs - total / count[0, 0]).exp()
