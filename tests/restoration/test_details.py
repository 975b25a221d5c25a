"""Crops around what is marked, and back: no seam, and nothing outside them changes."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.restoration.details import (
    MOST,
    MULTIPLE,
    Box,
    Details,
    areas,
    parts_of,
    weights,
)

PICTURE = (90, 130)


def pictures(count=1, channels=3, size=PICTURE):
    drawn = torch.Generator().manual_seed(count)
    return torch.rand(count, channels, *size, generator=drawn) * 2 - 1


def marked(*boxes: Box, size=PICTURE) -> torch.Tensor:
    mask = torch.zeros(size)
    for box in boxes:
        mask[box.top : box.bottom, box.left : box.right] = 1
    return mask


CASES = {
    "inside": [[Box(50, 40, 9, 7)]],
    "at a corner": [[Box(0, 0, 20, 13)]],
    "at the far corner": [[Box(120, 80, 10, 10)]],
    "several": [[Box(5, 5, 9, 7), Box(100, 60, 20, 11)]],
    "two that join": [[Box(40, 40, 9, 7), Box(55, 44, 5, 5)]],
    "the whole": [[Box(0, 0, 130, 90)]],
    "beyond the edge": [[Box(-30, 80, 50, 50)]],
}


@pytest.mark.parametrize("size", [0, 48])
@pytest.mark.parametrize("parts", CASES.values(), ids=CASES)
def test_outside_of_the_crops_and_on_their_edges_nothing_changes(parts, size):
    """Whatever comes back, of whatever size."""
    x = pictures()
    details = Details.around(x, parts, 8, size)
    crops = details.cut(x)
    assert all(n % MULTIPLE == 0 for n in crops.shape[2:])
    free = torch.ones(PICTURE, dtype=torch.bool)
    for _, box in details.crops:
        seen = weights(box, PICTURE, 4)[: PICTURE[0] - box.top, : PICTURE[1] - box.left]
        free[box.top : box.bottom, box.left : box.right] &= seen == 0
    for back in (torch.full_like(crops, 3.0), torch.ones(len(crops), 3, 20, 50)):
        result = details.stitched(back, 4)
        assert torch.equal(result[..., free], x[..., free])
        assert bool((result != x)[..., ~free].any())
    if size == 0:
        assert torch.equal(details.stitched(crops, 4), x)


@pytest.mark.parametrize("parts", CASES.values(), ids=CASES)
def test_what_was_marked_is_replaced_as_a_whole(parts):
    """With a feather that is no wider than the padding."""
    x = pictures()
    details = Details.around(x, parts, 8)
    result = details.stitched(torch.full_like(details.cut(x), 0.25), 7)
    for part in parts[0]:
        seen = part.inside(*PICTURE)
        assert seen is not None
        inner = result[..., seen.top : seen.bottom, seen.left : seen.right]
        assert torch.equal(inner, torch.full_like(inner, 0.25))


@pytest.mark.parametrize("feather", [0, 3, 1000])
def test_weights_are_0_on_the_outer_edge_rise_and_know_the_border_of_the_picture(feather):
    w = weights(Box(10, 20, 48, 32), PICTURE, feather)
    assert w.shape == (32, 48)
    edge = torch.cat([w[0], w[-1], w[:, 0], w[:, -1]])
    assert torch.equal(edge, torch.zeros_like(edge))
    assert float(w[16, 24]) == 1
    for line in (w[16, :24], w[:16, 24]):
        assert bool((line.diff() >= 0).all())
        assert float(line.diff().max()) <= (1.5 / (min(feather, 10) + 1)) + 1e-6
    corner = weights(Box(0, 58, 48, 32), PICTURE, feather)
    assert torch.equal(corner[:, 0] > 0, torch.arange(32) > 0)
    assert torch.equal(corner[0], torch.zeros(48))
    assert float(corner[-1, 0]) == 1


def test_connected_parts_are_told_apart_and_corners_connect():
    own = [Box(3, 4, 10, 5), Box(40, 4, 2, 60), Box(80, 70, 1, 1)]
    assert sorted(parts_of(marked(*own)), key=lambda b: b.left) == own
    assert parts_of(marked(Box(3, 4, 5, 5), Box(8, 9, 5, 5))) == [Box(3, 4, 10, 10)]
    assert parts_of(torch.zeros(PICTURE)) == []
    assert parts_of(torch.ones(PICTURE)) == [Box(0, 0, 130, 90)]


@pytest.mark.parametrize("seed", range(6))
def test_parts_are_those_of_a_flood(seed):
    """Of random specks: each pixel takes its neighbours' largest number until none changes."""
    drawn = torch.Generator().manual_seed(seed)
    mask = (torch.rand(24, 31, generator=drawn) < 0.35).float()
    numbers = (1 + torch.arange(mask.numel()).view(1, 1, *mask.shape).float()) * mask
    while True:
        more = torch.nn.functional.max_pool2d(numbers, 3, 1, 1) * mask
        if torch.equal(more, numbers):
            break
        numbers = more
    wanted = set()
    for number in numbers[numbers > 0].unique():
        y, x = (numbers[0, 0] == number).nonzero().T
        left, top = int(x.min()), int(y.min())
        wanted.add(Box(left, top, int(x.max()) - left + 1, int(y.max()) - top + 1))
    found = parts_of(mask)
    # Parts of one box inside another can have equal boxes; so they are compared as sets.
    assert set(found) == wanted


def test_too_many_parts_are_refused():
    mask = torch.zeros(80, 80)
    mask[::2, ::2] = 1
    assert len(range(0, 80, 2)) ** 2 > MOST
    with pytest.raises(ValueError, match="1600 separate parts"):
        parts_of(mask)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_crops_hold_their_parts_and_never_overlap(seed, square):
    drawn = torch.Generator().manual_seed(seed)
    lefts, tops, sides = (torch.randint(0, n, (2, 4), generator=drawn) for n in (125, 85, 30))
    parts = [
        [
            Box(int(left), int(top), int(side) + 1, int(side) // 2 + 1)
            for left, top, side in zip(*each, strict=True)
        ]
        for each in zip(lefts, tops, sides, strict=True)
    ]
    crops = areas(parts, PICTURE, 6, square=square)
    if not square:
        assert len({(box.height, box.width) for own in crops for box in own}) == 1
    for own, around in zip(parts, crops, strict=True):
        for k, box in enumerate(around):
            assert box.height % MULTIPLE == box.width % MULTIPLE == 0
            assert box.left >= 0
            assert box.top >= 0
            assert not any(box.overlaps(other) for other in around[k + 1 :])
            if square:
                assert box.height == box.width
        for part in own:
            seen = part.inside(*PICTURE)
            assert seen is not None
            assert any(seen.with_other(box) == box for box in around)


def test_what_lies_beyond_the_picture_is_its_reflection():
    x = pictures(size=(40, 40))
    details = Details.around(x, [[Box(0, 0, 40, 40)]], 0)
    (crop,) = details.cut(x)
    assert crop.shape == (3, 48, 48)
    assert torch.equal(crop[:, :40, :40], x[0])
    assert torch.equal(crop[:, 40:, :40], x[0].flip(1)[:, 1:9])


def test_crops_come_back_to_their_own_pictures_and_versions():
    x = pictures(3)
    parts = [[Box(10, 10, 5, 5)], [], [Box(90, 60, 5, 5), Box(10, 60, 5, 5)]]
    details = Details.around(x, parts, 4)
    crops = details.cut(x)
    assert len(crops) == 3
    result = details.stitched(torch.cat([torch.full_like(crops, v) for v in (0.1, 0.9)]), 0)
    assert len(result) == 6
    for version, value in enumerate((0.1, 0.9)):
        for k, own in enumerate(parts):
            for part in own:
                middle = result[3 * version + k, :, part.top + 2, part.left + 2]
                assert torch.equal(middle, torch.full((3,), value))
        assert torch.equal(result[3 * version + 1], x[1])


def test_alpha_stays_and_grey_stays_grey():
    for channels in (4, 1):
        x = pictures(channels=channels)
        details = Details.around(x, [[Box(50, 40, 9, 7)]], 8)
        result = details.stitched(torch.ones(1, 3, 32, 32), 2)
        assert result.shape == x.shape
        assert torch.equal(result[:, 3:], x[:, 3:])
        assert float(result[0, 0, 43, 54]) == 1


@pytest.mark.parametrize("size", [32, 80, 128, 208])
def test_a_resized_crop_comes_back_to_its_place(size):
    """Slopes along both axes, by less than a tenth of what one pixel's shift would change."""
    down, across = torch.arange(90.0)[:, None], torch.arange(130.0)
    x = torch.stack([down.expand(90, 130), across.expand(90, 130), down + across])[None] / 300
    details = Details.around(x, [[Box(60, 40, 44, 44)]], 10, size)
    crops = details.cut(x)
    assert crops.shape == (1, 3, size, size)
    back = details.stitched(crops, 4)
    ((_, box),) = details.crops
    edge = max(6, 3 * box.width // size)
    inner = (
        ...,
        slice(box.top + edge, box.bottom - edge),
        slice(box.left + edge, box.right - edge),
    )
    assert float((back - x)[inner].abs().max()) < 0.1 / 300


def test_what_cannot_be_is_refused_in_a_sentence():
    x = pictures()
    with pytest.raises(ValueError, match="nothing is marked"):
        Details.around(x, [[]], 8)
    with pytest.raises(ValueError, match="nothing is marked"):
        Details.around(x, [[Box(500, 10, 20, 20)]], 8)
    with pytest.raises(ValueError, match="the size of the crops is 100"):
        Details.around(x, [[Box(5, 5, 9, 9)]], 8, 100)
    details = Details.around(x, CASES["several"], 8)
    for count in (0, 1, 3):
        with pytest.raises(ValueError, match=f"{count} restored crops came back and 2"):
            details.stitched(details.cut(x)[:1].repeat(count, 1, 1, 1), 4)
    with pytest.raises(ValueError, match="NaN"):
        details.stitched(details.cut(x) * float("nan"), 4)
