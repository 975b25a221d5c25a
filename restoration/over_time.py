"""What frames of a shot tell of each other: dust that lasts one frame, and pixels seen again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..estimation.shifts import camera_motion, composed, inside, moved, reversed_, still
from ..operators import LinearOperator, Recipe
from ..samplers.fill import filled

BOX = 5
"""Side in pixels of the squares in which frames are compared."""
SAME, APART = 1.1, 0.25
"""Up to ``SAME`` times the squared difference that noise makes, pixels are the same; beyond it
their weight falls, to 1/e after a further ``APART``."""
LEAST_NOISE = 0.01
"""Frames differ by so much without any noise: by rounding, and by the resampling of motion."""
FULLY = 0.6
"""Least part of a pixel that must be known in a moved frame."""
OVERLAP = 0.15
"""Least part of a square that both frames know, so that they can be compared there."""
SPIKE, VISIBLE = 6.0, 0.2
"""Dust differs from both neighbouring frames by so many times the noise, and by so much."""


@dataclass(frozen=True)
class Known:
    """Frames of a film as far as they are known: values (T, C, H, W) and weights (T, 1, H, W).

    The noise of a value is that of the film over the root of its weight; at 0 it is not known.
    """

    values: Tensor
    weights: Tensor

    @classmethod
    def of(cls, frames: Tensor) -> Known:
        """Frames that are known everywhere."""
        return cls(frames, torch.ones_like(frames[:, :1]))

    def before(self, recipe: Recipe) -> Known:
        """The film of which these are the measurement by ``recipe``, an operator over time in which
        every value belongs to one frame."""
        operator = recipe.bind(tuple(self.values.shape[1:]))
        assert isinstance(operator, LinearOperator)
        weights = self.weights.expand_as(self.values)
        ones = weights.new_ones(operator.images_of(len(weights)), *operator.in_shape)
        # As every row of A has one value, AᵀW A is diagonal, and this is its diagonal.
        total = operator.adjoint(weights * operator.A(ones))
        values = operator.adjoint(weights * recipe.from_photo(self.values))
        return Known(torch.where(total > 0, values / total.clamp(min=1e-12), 0.0), total[:, :1])

    def without(self, masks: Tensor) -> Known:
        """The same, unknown where ``masks`` (T, 1, H, W) are 1."""
        return Known(self.values, self.weights * (1 - masks))


class Neighbours:
    """The frames of one shot, and where they are seen from each other.

    Frames that are known in part are filled smoothly to find the motion of the camera.
    """

    def __init__(self, known: Known):
        self.known = known
        part = (known.weights > 0).to(known.values)
        self.full, smooth = known.values, known.values
        if bool((part == 0).any()):
            total, count = _smoothed(part * known.values), _smoothed(part)
            rough = filled(known.values, part)
            smooth = torch.where(count > 0, total / count.clamp(min=1e-6), rough)
            self.full = torch.where(part > 0, known.values, smooth)
        self._motions = {1: _steps(smooth, part.flatten(1).any(1))}

    def motion(self, distance: int) -> Tensor:
        """From frame t to frame t + ``distance``, (T − ``distance``, 2, 3)."""
        if distance not in self._motions:
            before = self.motion(distance - 1)
            rest = self._motions[1][distance - 1 :]
            self._motions[distance] = composed(before[: len(rest)], rest)
        return self._motions[distance]

    def seen(self, offset: int) -> tuple[slice, Tensor, Tensor]:
        """The frames t that have a frame t + ``offset``; its values as seen from t, and weights."""
        count, far = len(self.full) - abs(offset), abs(offset)
        here, there = (slice(0, count), slice(far, None))
        theta = self.motion(far)
        if offset < 0:
            here, there, theta = there, here, reversed_(theta)
        weights = self.known.weights[there]
        known = moved((weights > 0).to(weights), theta, "bilinear") > FULLY
        usable = known & inside(theta, *weights.shape[2:])
        return (
            here,
            moved(self.full[there], theta),
            moved(weights, theta, "bilinear") * usable,
        )


def _steps(frames: Tensor, known: Tensor) -> Tensor:
    """The motion from every frame to the next, (T − 1, 2, 3); over frames that are not ``known``
    (T,) at all it is even."""
    steps = still(max(0, len(frames) - 1))
    at = known.nonzero()[:, 0]
    if len(at) < 2:
        return steps
    first, last = at[:-1], at[1:]
    for a, b, theta in zip(
        first.tolist(), last.tolist(), camera_motion(frames[first], frames[last]), strict=True
    ):
        steps[a:b] = still(1) + (theta - still(1)) / (b - a)
    return steps


def seen_again(known: Known, noise: float, reach: int) -> Known:
    """Frames with the mean of what is seen of every pixel in up to ``reach`` frames on either side.

    Frames are moved by the motion of the camera, and compared square by square: what moved by
    itself, or was covered, differs by more than ``noise`` and does not count. Where two frames know
    no pixel in common, as neighbouring fields of video, the frames around them are compared.
    """
    count = len(known.values)
    reach = min(reach, count - 1)
    if reach < 1:
        return known
    near = Neighbours(known)
    partly = bool((known.weights == 0).any())
    most = min(reach + partly, count - 1)
    offsets = [sign * d for d in range(1, most + 1) for sign in (1, -1)]
    frames, alike = {}, {}
    for offset in offsets:
        here, values, weights = near.seen(offset)
        frames[offset] = here, values, weights
        alike[offset] = torch.full_like(known.weights, torch.nan)
        alike[offset][here] = _alike(
            Known(known.values[here], known.weights[here]), Known(values, weights), noise
        )
    total, squares = known.weights.clone(), known.weights.clone()
    values = known.weights * known.values
    for offset in offsets:
        if abs(offset) > reach:
            continue
        here, seen, weights = frames[offset]
        share = alike[offset] if not partly else _around(alike, offset)
        share = share[here].nan_to_num(0.0)
        total[here] += share * weights
        squares[here] += share.square() * weights
        values[here] += share * weights * seen
    there = total > 0
    return Known(
        torch.where(there, values / total.clamp(min=1e-12), 0.0),
        torch.where(there, total.square() / squares.clamp(min=1e-12), 0.0),
    )


def _alike(one: Known, other: Known, noise: float) -> Tensor:
    """How far pixels are the same in two films, (N, 1, H, W) from 0 to 1; NaN: unknown."""
    both = ((one.weights > 0) & (other.weights > 0)).to(one.values)
    variance = 1 / one.weights.clamp(min=1e-6) + 1 / other.weights.clamp(min=1e-6)
    variance = max(noise, LEAST_NOISE) ** 2 * variance
    apart = (one.values - other.values).square().mean(1, keepdim=True) / variance
    apart, part = (_box(each) for each in (apart * both, both))
    ratio = torch.where(part >= OVERLAP, apart / part.clamp(min=1e-6), torch.nan)
    return torch.exp(-(ratio - SAME).clamp(min=0) / APART)


def _smoothed(x: Tensor) -> Tensor:
    """Frames (N, C, H, W) with the weights 1, 2, 1 over 3 x 3 pixels, and 0 beyond the border; of
    every second row, the rows between are the means of their neighbours."""
    taps = x.new_tensor([1.0, 2.0, 1.0])
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def _box(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, BOX, 1, BOX // 2, count_include_pad=False)


def _around(alike: dict[int, Tensor], offset: int) -> Tensor:
    """``alike[offset]``; where it is unknown, that of t and the frame beyond t + ``offset``, or of
    the frame before t and t + ``offset``, whichever is less."""
    further = offset + (1 if offset > 0 else -1)
    if further not in alike:
        return alike[offset]
    beyond = alike[further]
    before = torch.full_like(beyond, torch.nan)
    if offset > 0:
        before[1:] = beyond[:-1]
    else:
        before[:-1] = beyond[1:]
    least = torch.minimum(beyond.nan_to_num(1.0), before.nan_to_num(1.0))
    least = torch.where(beyond.isnan() & before.isnan(), 0.0, least)
    return torch.where(alike[offset].isnan(), least, alike[offset])


def find_dust(frames: Tensor, noise: float) -> Tensor:
    """Where frames (T, C, H, W) of a shot have dust that lasts one frame, (T, 1, H, W), 1 there.

    Dust is brighter, or darker, than the frames before and after it, which agree (the spike
    detection of Kokaram 1998, after the motion of the camera). The first and the last frame have no
    such neighbours, and what moves by itself from frame to frame can look alike.
    """
    masks = torch.zeros_like(frames[:, :1])
    if len(frames) < 3:
        return masks
    near = Neighbours(Known.of(frames))
    _, after, _ = near.seen(1)
    _, before, _ = near.seen(-1)
    here, after, before = frames[1:-1], after[1:], before[:-1]
    one, other = ((here - each).mean(1, keepdim=True) for each in (after, before))
    least = torch.minimum(one.abs(), other.abs())
    apart = (after - before).abs().mean(1, keepdim=True)
    spike = (one * other > 0) & (least > max(SPIKE * noise, VISIBLE)) & (apart < 0.4 * least)
    masks[1:-1] = F.max_pool2d(spike.to(frames), 5, 1, 2)
    return masks
