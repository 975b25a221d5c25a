"""Several samples of one photo: mean, spread and best by definition, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comfyui_flowdps.benchmarks import pictures
from comfyui_flowdps.operators import BicubicDownsample, GaussianBlur
from comfyui_flowdps.operators.randomness import generator, key_of_draw
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.restoration.images import sheet
from comfyui_flowdps.restoration.pipeline import Request, prepare, restore, restore_several
from comfyui_flowdps.restoration.several import WHITE, Several
from comfyui_flowdps.samplers import data_consistency, preset


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_mean_and_spread_are_those_of_numpy():
    images = 0.3 * noise(5, 3, 6, 7)
    several = Several(images, [1.0] * 5, factor=1.7)
    x = images.double().numpy()
    deviation = np.std(x, axis=0, ddof=1)
    want = 1.7 * np.sqrt(np.mean(deviation**2, axis=0))
    np.testing.assert_allclose(several.mean[0].numpy(), x.mean(0), atol=1e-6)
    np.testing.assert_allclose(several.spread[0, 0].numpy(), want, rtol=1e-5)
    assert several.spread.shape == (1, 1, 6, 7)
    assert several.rms_spread == pytest.approx(float(np.sqrt(np.mean(want**2))), rel=1e-5)
    np.testing.assert_allclose(several.map[0, 0].numpy(), np.clip(want / WHITE, 0, 1), rtol=1e-5)
    assert float(several.map.min()) > 0
    assert float(several.map.max()) == 1


def test_the_spread_is_that_of_the_distribution_that_was_drawn_from():
    """With K − 1 the variance is unbiased even for two samples."""
    pairs = noise(2, 3, 200, 200)
    assert Several(pairs, [1.0, 1.0]).rms_spread == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("ratios", "best"),
    [
        ([2.0, 1.1, 0.98, 0.5], 2),
        ([0.45, 2.0], 1),
        ([0.6, 1.5], 1),
        ([0.7, 1.5], 0),
        ([2.0, 0.5], 0),
        ([3.0, 1.2, 1.2], 1),
        ([0.0, 5.0], 1),
    ],
)
def test_the_best_has_the_residual_of_the_noise(ratios, best):
    """In log; the first one among equals."""
    assert Several(torch.zeros(len(ratios), 3, 4, 4), ratios).best == best


def test_one_sample_has_no_spread():
    with pytest.raises(ValueError, match="at least 2, as a single one has no spread"):
        Several(torch.zeros(1, 3, 4, 4), [1.0])
    with pytest.raises(ValueError, match="2 ratios for 3 samples"):
        Several(torch.zeros(3, 3, 4, 4), [1.0, 1.0])
    for factor in (0.0, float("nan")):
        with pytest.raises(ValueError, match="factor is"):
            Several(torch.zeros(2, 3, 4, 4), [1.0, 1.0], factor)


def test_the_mean_of_corrected_images_is_the_corrected_mean():
    measured = Request(GaussianBlur(sigma=2.0, size=9), "flowdps", preset("flowdps"))
    clean = pictures("test", 1)[..., :32, :32]
    photo = prepare(clean, "x", measured, PRIOR())
    measurement = photo.observation.bind(count=4)
    images = clean + 0.2 * noise(4, 3, 32, 32)
    corrected = data_consistency(images, measurement, measured.settings)
    alone = photo.observation.bind()
    want = data_consistency(images.mean(0, keepdim=True), alone, measured.settings)
    assert float((corrected - images).abs().max()) > 0.01
    torch.testing.assert_close(corrected.mean(0, keepdim=True), want, atol=1e-5, rtol=0)


class PRIOR:
    """What a photo is fitted to."""

    stride, largest, usual = 8, 2048, 1024


def test_draws_have_keys_of_their_own():
    """The first one has the photo's own, as a run of a single sample always had."""
    assert key_of_draw("a.png", 0) == "a.png"
    assert key_of_draw(3, 0) == 3
    keys = [key_of_draw(name, k) for name in ("a.png", 1, 11) for k in range(20)]
    draws = {float(torch.randn(1, generator=generator(0, "sampling", key))) for key in keys}
    assert len(draws) == len(keys)


@pytest.fixture(scope="module")
def prior():
    return load_prior(None, device="cpu", dtype="float32", cfg=1.0)


def asked(method, samples=1):
    settings = preset(method, "fast" if method == "refine" else None)
    return Request(BicubicDownsample(4), method, settings, steps=2, seed=3, samples=samples)


@pytest.mark.parametrize("method", ["refine", "flowdps"])
def test_sample_k_does_not_depend_on_their_number_nor_on_other_photos(prior, method):
    request = asked(method, 3)
    photos = [
        prepare(x[None, :, :48, :56], name, request, prior)
        for x, name in zip(pictures("test", 2), ("a.png", "b.png"), strict=True)
    ]
    before = torch.random.get_rng_state()
    three, other = restore_several(photos, request, prior)
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator was used"
    plain = restore(photos, asked(method), prior)
    assert torch.equal(three.samples[0].restored, plain[0].restored)
    assert torch.equal(other.samples[0].restored, plain[1].restored)
    (two,) = restore_several(photos[:1], asked(method, 2), prior)
    for k in range(2):
        mine, theirs = two.samples[k].restored, three.samples[k].restored
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)
    for k, j in ((0, 1), (0, 2), (1, 2)):
        one, another = three.samples[k].restored, three.samples[j].restored
        assert float((one - another).abs().mean()) > 1e-3


def test_results_of_several_are_those_of_their_images(prior):
    request = asked("refine", 3)
    photo = prepare(pictures("test", 1)[..., :48, :56], "a.png", request, prior)
    counted = restore([photo], asked("refine"), prior)[0].work
    (found,) = restore_several([photo], request, prior)
    images = torch.cat([each.restored for each in found.samples])
    assert torch.equal(found.several.images, images)
    torch.testing.assert_close(found.mean.restored, images.mean(0, keepdim=True))
    measurement = photo.observation.bind()
    assert found.mean.residual_ratio == pytest.approx(
        float(measurement.residual_ratio(found.mean.restored)), rel=1e-5
    )
    assert found.several.ratios == [each.residual_ratio for each in found.samples]
    assert found.mean.work == {name: 3 * count for name, count in counted.items()}
    assert found.mean.psnr is not None
    assert found.mean.psnr >= np.mean([each.psnr for each in found.samples])


def test_a_sheet_wraps_into_rows():
    """Whole rows of the given length; without one, a single row as before."""
    columns = [(str(k), torch.full((1, 3, 160, 160), k / 4 - 1)) for k in range(5)]
    wide, wrapped = sheet(columns), sheet(columns, 2)
    assert wide.size == (5 * 168 + 8, 160 + 18 + 16)
    assert wrapped.size == (2 * 168 + 8, 3 * (160 + 18 + 8) + 8)
    for k in range(5):
        value = round(k / 4 * 127.5)
        assert wide.getpixel((8 + 168 * k + 80, 100)) == (value,) * 3
        assert wrapped.getpixel((8 + 168 * (k % 2) + 80, 100 + 186 * (k // 2))) == (value,) * 3


def test_the_report_says_where_samples_hardly_differ():
    """Whatever the factor: it makes no difference larger that is not there."""
    x = noise(4, 3, 32, 32)
    for factor in (1.0, 40.0):
        assert "hardly differ" in Several(0.001 * x, [1.0] * 4, factor).report
        assert "hardly differ" not in Several(0.02 * x, [1.0] * 4, factor).report
    text = Several(0.1 * x, [0.5, 2.0, 0.9, 3.0]).report
    assert "4 samples" in text
    assert "residual 0.50 to 3.00 times the noise; sample 3 fits best" in text
