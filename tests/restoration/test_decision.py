"""What a diagnosis leads to: request, sentences, and pixels that stay."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from comfyui_flowdps.operators import Identity, Mask
from comfyui_flowdps.priors.error_spectrum import BINS, ErrorSpectrum
from comfyui_flowdps.restoration.decision import Decision, strangeness
from comfyui_flowdps.restoration.degradation import Damage
from comfyui_flowdps.restoration.diagnosis import HEALTHY, Wish
from comfyui_flowdps.restoration.pipeline import Request, with_known
from comfyui_flowdps.restoration.verdict import AGREES, verdict
from comfyui_flowdps.samplers import preset

from ..estimation.scenes import detailed
from .test_diagnosis import noisy


def spectrum(levels):
    return ErrorSpectrum((0.1,), ((0.01,) * BINS,), refine=levels, eased=0.5)


def prior(levels=None):
    """A model whose autoencoder changes nothing."""
    return SimpleNamespace(
        stride=8,
        device=torch.device("cpu"),
        error_spectrum=None if levels is None else spectrum(levels),
        encode=lambda x: x,
        decode=lambda z: z,
    )


def asked(method="refine", **more) -> Request:
    return Request(Identity(), method, preset(method), suited=True, observed=True, **more)


GRAINY = noisy(detailed(3), 0.1)


@pytest.mark.parametrize("invent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("suits", [None, (0.15, 0.06)])
def test_the_levels_are_the_wishes_unless_they_are_given(invent, suits):
    wish = Wish("grainy", invent=invent)
    settings, levels = wish.plan(None if suits is None else spectrum(suits))
    found, request = Decision(wish, Damage()).of(GRAINY, asked(), prior(suits))
    assert request.settings == settings
    assert settings.eased == (1 if suits is None else 0.5)
    assert request.steps == len(levels) - 1
    assert request.noise == found.noise_level == pytest.approx(0.1, rel=0.15)
    assert not request.suited
    assert Decision(wish, Damage(), 7).of(GRAINY, asked(steps=7), prior(suits))[1].steps == 7
    given = Request(Identity(), "refine", preset("refine"), steps=2, observed=True)
    kept = Decision(wish, Damage()).of(GRAINY, given, prior(suits))[1]
    assert (kept.settings, kept.steps) == (given.settings, 2)


def test_other_methods_keep_their_own_levels():
    request = asked("flowdps", steps=28)
    _, made = Decision(Wish("grainy"), Damage()).of(GRAINY, request, prior((0.15, 0.06)))
    assert (made.settings, made.steps, made.method) == (request.settings, 28, "flowdps")


def test_a_given_noise_level_is_taken_and_repaired():
    x = torch.zeros(1, 3, 64, 64)
    x[..., 20:40, 10:50] = 0.5
    healthy, _ = Decision(Wish(), Damage()).of(x, asked(), prior())
    assert healthy.healthy
    assert HEALTHY in healthy.sentences
    found, request = Decision(Wish(), Damage(noise=0.1)).of(x, asked(), prior())
    assert (request.noise, found.healthy) == (0.1, False)
    assert HEALTHY not in found.sentences


def test_a_given_mask_is_stretched_to_the_photo():
    mask = torch.zeros(8, 8)
    mask[2:4, 4:6] = 1
    damage = Damage(mask=Mask.from_painted(mask))
    found, request = Decision(Wish("scratched"), damage).of(GRAINY, asked(), prior())
    height, width = GRAINY.shape[2:]
    assert found.only_lost
    inside = torch.zeros(height, width)
    inside[height // 4 : height // 2, width // 2 : 3 * width // 4] = 1
    assert torch.equal(found.lost, inside)
    assert torch.equal(request.recipe.mask(), 1 - inside.double())


def test_known_pixels_stay_to_the_bit_in_every_version():
    drawn = torch.Generator().manual_seed(0)
    photos, restored = (torch.rand(n, 3, 9, 7, generator=drawn) for n in (2, 6))
    lost = (torch.rand(9, 7, generator=drawn) > 0.7).float()
    kept = with_known(restored, photos, lost)
    for k in range(6):
        known = lost == 0
        assert torch.equal(kept[k][:, known], photos[k % 2][:, known])
        assert torch.equal(kept[k][:, ~known], restored[k][:, ~known])


def test_a_result_agrees_up_to_a_limit():
    assert "agrees with" in verdict(AGREES)
    assert "does not agree" in verdict(AGREES + 0.01)


def test_a_model_is_strange_if_it_loses_more_than_the_noise():
    clean = detailed(4)
    y = noisy(clean, 0.1)
    assert strangeness(y, 0.0, 8, lambda x: x) == []
    top, left = (max(0, n - 256) // 2 for n in y.shape[2:])
    part = clean[..., top : top + 256, left : left + 256]
    assert strangeness(y, 0.1, 8, lambda x: part if x.shape == part.shape else x) == []
    (said,) = strangeness(y, 0.1, 8, lambda x: x.mean((2, 3), keepdim=True).expand_as(x))
    assert "larger model" in said


def test_the_part_that_is_tried_fits_the_model():
    shapes = []

    def round_trip(x):
        shapes.append(tuple(x.shape))
        return x

    strangeness(torch.zeros(2, 3, 30, 700), 0.0, 16, round_trip)
    assert shapes == [(1, 3, 32, 256)]
