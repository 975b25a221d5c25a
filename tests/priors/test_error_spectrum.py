"""Error spectra: interpolation, files, and what is measured of known errors."""

import json
from dataclasses import replace

import pytest
import torch
from comfyui_flowdps.benchmarks.error_spectrum import bands, measured
from comfyui_flowdps.priors.base import BasePrior
from comfyui_flowdps.priors.built_in import DEMO
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.priors.error_spectrum import BINS, ErrorSpectrum
from comfyui_flowdps.samplers import preset, suited

FLAT = ErrorSpectrum((0.1, 0.3), ((0.01,) * BINS, (0.04,) * BINS))


def test_levels_and_bands_are_interpolated_between_logarithms():
    torch.testing.assert_close(FLAT.at(0.2), torch.full((BINS,), 0.02).double())
    for sigma, want in ((0.0, 0.01), (0.1, 0.01), (0.3, 0.04), (1.0, 0.04)):
        torch.testing.assert_close(FLAT.at(sigma), torch.full((BINS,), want).double())
    torch.testing.assert_close(
        FLAT.density(0.1, 9, 12), torch.full((9, 7, 2), 0.01, dtype=torch.float64)
    )
    steep = ErrorSpectrum((0.1,), (tuple(2.0**-k for k in range(BINS)),))
    density = steep.density(0.1, 32, 32)
    assert bool((density[1:] <= density[:-1] + 1e-12).all())
    assert float(density.max()) == 1
    assert float(density.min()) == pytest.approx(2.0 ** -(BINS - 1), rel=0.1)


def test_white_noise_has_its_variance_in_every_band():
    noise = 0.3 * torch.randn(40, 3, 48, 64, generator=torch.Generator().manual_seed(2))
    for found in bands(noise):
        assert found == pytest.approx(0.09, rel=0.1)


class Off(BasePrior):
    """A model in pixels that is off by white noise times the noise level."""

    latent_channels, stride = 3, 1
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        super().__init__()
        self.drawn = torch.Generator().manual_seed(3)

    def denoise(self, z, sigma):
        noise = torch.randn(z.shape, generator=self.drawn)
        return self.clean + 2 * 0.2 * sigma * noise

    def decode(self, z):
        return z

    def moments(self, x):
        self.clean = x
        return x, None


def test_the_error_of_a_model_is_measured():
    spectrum = measured(Off(), torch.zeros(24, 3, 32, 32), (0.5, 1.0))
    # The mean of four, whose errors are independent here.
    for sigma, row in zip(spectrum.sigmas, spectrum.variance, strict=True):
        assert row == pytest.approx([(0.2 * sigma) ** 2] * BINS, rel=0.25)


def test_a_file_beside_the_weights_is_found(tmp_path):
    weights = tmp_path / "model.safetensors"
    assert ErrorSpectrum.beside(weights) is None
    FLAT.save(tmp_path / "model.spectrum.json")
    assert ErrorSpectrum.beside(weights) == FLAT
    spectrum = load_prior(device="cpu").error_spectrum
    assert spectrum == ErrorSpectrum.beside(DEMO.file)
    assert spectrum is not None


BAD = {
    "rising": {"sigmas": [0.3, 0.1], "variance": [[1.0] * BINS] * 2},
    "as many": {"sigmas": [0.1], "variance": []},
    "above 0": {"sigmas": [0.1], "variance": [[0.0] * BINS]},
    "16 numbers": {"sigmas": [0.1], "variance": [[1.0] * 3]},
    "no error spectrum": {"sigmas": None},
}


@pytest.mark.parametrize("words", BAD)
def test_what_is_no_spectrum_is_refused(words, tmp_path):
    file = tmp_path / "x.spectrum.json"
    file.write_text(json.dumps(BAD[words]))
    with pytest.raises(ValueError, match=words):
        ErrorSpectrum.load(file)


def test_the_levels_of_refine_travel_with_the_spectrum(tmp_path):
    """A run that names no level has those of its model; a method without such levels has none."""
    suits = replace(FLAT, refine=(0.15, 0.06), eased=0.5)
    suits.save(tmp_path / "prior.spectrum.json")
    assert ErrorSpectrum.beside(tmp_path / "prior.safetensors") == suits
    prior, settings = Off(), preset("refine")
    assert suited(settings, prior) == settings
    prior.error_spectrum = suits
    found = suited(settings, prior)
    assert (found.denoise, found.last, found.eased) == (0.15, 0.06, 0.5)
    assert replace(found, denoise=settings.denoise, last=settings.last, eased=1) == settings
    assert suited(preset("flowdps"), prior) == preset("flowdps")


@pytest.mark.parametrize("levels", [(0.1, 0.2), (1.5, 0.1), (0.1, 0.0)])
def test_levels_that_refine_cannot_have_are_refused(levels):
    with pytest.raises(ValueError, match="expected the first and the last"):
        replace(FLAT, refine=levels)


@pytest.mark.parametrize("factor", [0.0, 1.5])
def test_levels_are_lowered_only(factor):
    with pytest.raises(ValueError, match="eased"):
        replace(FLAT, eased=factor)
