"""Samplers on films: frames that a measurement mixes, and frames that share what is random."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import (
    Chain,
    Dust,
    Exposure,
    Fields,
    Flicker,
    GaussianBlur,
    Identity,
    Measurement,
)
from comfyui_flowdps.samplers import METHODS, finished, preset, sample, with_values

from .test_samplers import CurvedPrior

SHAPE = (3, 8, 12)
PIXELS = [name for name, row in METHODS.items() if not row.preset().gradients]
SMALL = with_values(preset("refine"), iterations=20)


def film(count=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(count, *SHAPE, generator=g, dtype=torch.float64) - 0.5).float()


def measured(recipe, x, level=0.05):
    return Measurement(recipe.bind(SHAPE).A(x), recipe.bind(SHAPE), level)


def restored(measurement, method="refine", settings=None, same=True, steps=2):
    """Restorations with the same noise in all frames, or independent noise."""
    settings = settings or (SMALL if method == "refine" else preset(method))
    gens = [torch.Generator().manual_seed(0 if same else k) for k in range(measurement.count)]
    prior = CurvedPrior()
    result = sample(
        method,
        prior,
        measurement,
        sigmas=METHODS[method].levels(settings, steps),
        settings=settings,
        generators=gens,
    )
    return finished(prior, result, measurement, settings)


@pytest.mark.parametrize("method", ["refine", "flowdps"])
def test_a_still_shot_stays_still_where_frames_share_their_noise(method):
    x = film(1).expand(3, *SHAPE)
    same = restored(measured(Identity(), x), method)
    torch.testing.assert_close(same, same[:1].expand_as(same), rtol=0, atol=1e-5)
    if method == "refine":
        return  # Which averages over opposite noises, so that others make hardly a difference.
    other = restored(measured(Identity(), x, 0.3), method, same=False)
    assert float((other - other[:1]).abs().max()) > 1e-3


def test_fields_are_frames_whose_other_rows_are_unknown():
    """Both say the same of the film, and lead to the same restoration."""
    x = film()
    rows = torch.arange(8).view(8, 1) % 2
    known = torch.stack([(rows == k % 2).expand(8, 12) for k in range(4)]).double()
    by_fields = restored(measured(Fields(), x))
    by_masks = restored(measured(Dust.from_tensor(known), x))
    torch.testing.assert_close(by_fields, by_masks, rtol=0, atol=2e-4)


def test_flicker_is_undone():
    x = film(1).expand(4, *SHAPE)
    gains = (1.0, 0.7, 1.2, 0.9)
    before = measured(Identity(), Flicker(gains).bind(SHAPE).A(x))
    after = restored(measured(Flicker(gains), x))
    assert after.var(0).mean() < 0.1 * restored(before).var(0).mean()


@pytest.mark.parametrize("method", PIXELS)
@pytest.mark.parametrize(
    "recipe",
    [Fields(), Exposure(2), Chain((GaussianBlur(3, 0.7), Fields()))],
    ids=["fields", "exposure", "blurred fields"],
)
def test_methods_without_gradients_restore_all_frames(method, recipe):
    x, settings = film(), None
    got = restored(measured(recipe, x), method, settings)
    assert got.shape == x.shape
    assert bool(got.isfinite().all())
    zero = restored(Measurement(0 * recipe.bind(SHAPE).A(x), recipe.bind(SHAPE), 0.05), method)
    assert float((got - zero).abs().mean()) > 1e-2


def test_gradients_frame_by_frame_are_refused_where_frames_are_mixed():
    settings = preset("flowdps", "published")
    with pytest.raises(ValueError, match=r"2 frames of the film are measured as 1.*Refine"):
        restored(measured(Exposure(2), film()), "flowdps", settings)
    got = restored(measured(Flicker((1.0, 0.9, 1.1, 1.0)), film()), "flowdps", settings)
    assert got.shape == (4, *SHAPE)
