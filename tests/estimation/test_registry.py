"""One table of estimators, one form of answer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from comfyui_flowdps.cli.arguments import parse
from comfyui_flowdps.estimation.noise import overall_noise
from comfyui_flowdps.estimation.registry import ESTIMATORS, Photo, estimate
from comfyui_flowdps.operators import Recipe
from comfyui_flowdps.restoration.degradation import ESTIMATES
from PIL import Image

PAGE = Path(__file__).resolve().parents[2] / "docs" / "estimation.md"


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Photo:
    """A noisy scene of blocks, saved as a JPEG, with a bright point and a mask over it."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(1, 3, 12, 14, generator=generator).repeat_interleave(8, 2)
    x = 1.2 * blocks.repeat_interleave(8, 3) - 0.6
    x = x + 0.02 * torch.randn(x.shape, generator=generator)
    x[..., 40:56, 40:56] = -0.6
    x[..., 47:49, 47:49] = 0.9
    file = tmp_path_factory.mktemp("photo") / "photo.jpg"
    pixels = ((x[0].clamp(-1, 1) + 1) * 127.5).round().byte().movedim(0, -1).numpy()
    Image.fromarray(pixels).save(file, quality=60)
    mask = torch.zeros(96, 112)
    mask[44:52, 44:52] = 1
    return Photo(x, file, mask, kernel_size=11)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_gives_an_operator_and_a_noise_level(name, photo):
    found = estimate(name, photo)
    assert isinstance(found.recipe, Recipe)
    assert found.recipe.bind((3, 96, 112)).in_shape == (3, 96, 112)
    assert math.isfinite(found.noise_level)
    assert found.noise_level > 0
    assert found.report
    assert float(found.kernel.sum()) == pytest.approx(1)


def test_there_is_one_rule_for_the_noise_of_a_photo(photo):
    """Every estimator that measures the noise gives the same level."""
    level = overall_noise(photo.x)
    for name in ("noise", "blur", "gaussian", "free", "point"):
        assert estimate(name, photo).noise_level == level, name


def test_a_noise_level_that_is_known_is_kept(photo):
    known = Photo(photo.x, photo.file, photo.mask, 0.0123, 11)
    for name in ("blur", "free", "point"):
        assert estimate(name, known).noise_level == 0.0123, name


def test_what_is_missing_is_said(photo):
    with pytest.raises(ValueError, match="unknown estimator 'shake'; expected one of noise, "):
        estimate("shake", photo)
    with pytest.raises(ValueError, match="give the file itself"):
        estimate("jpeg", Photo(photo.x))
    with pytest.raises(ValueError, match="needs a mask"):
        estimate("point", Photo(photo.x))


def test_command_line_and_documents_know_every_estimator(capsys):
    with pytest.raises(SystemExit):
        parse(["restore", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in ESTIMATES:
        assert f"{name}, {ESTIMATORS[name].about}" in text
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in ESTIMATORS if f"`{name}`" not in page] == []


def test_two_estimates_of_the_blur_are_refused():
    from comfyui_flowdps.restoration.degradation import Damage

    with pytest.raises(ValueError, match="defocus and free both estimate the blur: choose one"):
        Damage(estimate=("defocus", "noise", "free"))
