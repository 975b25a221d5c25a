"""What the training on photographs promises: no leak, no lost step, files that hosts load."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from comfyui_flowdps.priors.sd3_file import Checkpoint, load_autoencoder, load_transformer
from comfyui_flowdps.training import autoencoder, flow, latents, photos, prior, taesd
from comfyui_flowdps.training.__main__ import main
from comfyui_flowdps.training.wiener import Wiener, autocovariance, covariance
from PIL import Image
from safetensors.torch import load_file, safe_open

DEMO_PRIOR = Path(__file__).parents[1] / "priors" / "demo_prior.safetensors"
TINY = 4
"""Side of training crops in cells: 32 pixels."""


def photograph(path: Path, seed: int, height: int = 96, width: int = 128) -> Path:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def album(tmp_path) -> Path:
    """Ten scenes, numbered, and one picture that is for measuring only."""
    folder = tmp_path / "album"
    for k in range(10):
        photograph(folder / "scenes" / f"{k:04}.png", k)
    photograph(folder / "test" / "0001.png", 99)
    return folder


def tiny_autoencoder(width: int = 8) -> taesd.Autoencoder:
    torch.manual_seed(3)
    return taesd.Autoencoder(width).requires_grad_(False)


# Data


def test_held_out_and_excluded_pictures_never_train(album):
    train, tune = photos.load(album, ["scenes/*[05].png"], ["test/*"])
    assert [p.name for p in tune] == ["scenes/0000.png", "scenes/0005.png"]
    assert [p.name for p in train] == [f"scenes/000{k}.png" for k in (1, 2, 3, 4, 6, 7, 8, 9)]


def test_a_copy_of_a_held_out_picture_does_not_train(album):
    with Image.open(album / "scenes" / "0005.png") as image:
        image.resize((120, 90)).save(album / "scenes" / "0011.jpg", quality=90)
    train, _ = photos.load(album, ["scenes/*[05].png"])
    assert "scenes/0011.jpg" not in {p.name for p in train}
    assert len(train) == 9


def test_without_patterns_the_content_decides(album):
    for k in range(10, 60):
        photograph(album / "scenes" / f"{k:04}.png", k, 12, 16)
    shutil.copytree(album / "scenes", album / "renamed")
    train, tune = photos.load(album)
    sides = [{Path(p.name).name for p in part if "scenes" in p.name} for part in (train, tune)]
    assert tune
    assert not sides[0] & sides[1]
    renamed = {Path(p.name).name for p in tune if "renamed" in p.name}
    assert renamed == sides[1]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="0 pictures"):
        photos.load(tmp_path)


def test_pictures_are_turned_and_limited_in_size(tmp_path):
    path = photograph(tmp_path / "large.jpg", 1, 600, 2400)
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by a quarter.
    with Image.open(path) as image:
        image.save(path, exif=exif)
    assert photos.read(path).shape == (3, photos.LONG_SIDE, photos.LONG_SIDE // 4)


def test_pictures_are_read_as_the_command_reads_them(album, capsys):
    """Alpha on white, 16 bits as 16 bits; a file that is broken is left out with a line."""
    Image.new("RGBA", (64, 48), (200, 0, 0, 0)).save(album / "clear.png")
    ramp = np.tile(np.linspace(0, 65535, 64), (48, 1)).astype(np.uint16)
    Image.fromarray(ramp).save(album / "deep.tif")
    Image.new("L", (64, 48), 77).save(album / "grey.jpg")
    assert int(photos.read(album / "clear.png").min()) == 255
    want = torch.from_numpy(ramp / 257)
    assert float((photos.read(album / "deep.tif")[1] - want).abs().max()) <= 0.51
    assert photos.read(album / "grey.jpg").unique().tolist() == [77]
    (album / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    train, tune = photos.load(album)
    assert "broken.jpg" not in {photo.name for photo in train + tune}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("left out: ")
    assert "broken.jpg is not an image" in line


def test_a_crop_at_full_resolution_is_a_window():
    pixels = torch.arange(3 * 40 * 50).reshape(3, 40, 50).remainder(251).to(torch.uint8)
    patch = photos.crop(pixels, 16, 24, 1.0, torch.Generator().manual_seed(2))
    windows = pixels.unfold(1, 16, 1).unfold(2, 24, 1).permute(1, 2, 0, 3, 4)
    assert (windows == patch).flatten(2).all(2).any()


def test_crops_repeat_with_their_generator(album):
    train, _ = photos.load(album, ["scenes/*[05].png"])
    crops = photos.Crops(train)
    a, b = (crops.draw(6, 64, torch.Generator().manual_seed(5)) for _ in range(2))
    assert a.shape == (6, 3, 64, 64)
    assert torch.equal(a, b)
    assert torch.equal(photos.fixed_crops(train, 32, 5), photos.fixed_crops(train, 32, 5))


# Autoencoder


def test_the_layout_is_taesds_to_the_key():
    """The prior in the box has an autoencoder in the layout that both hosts are tested with."""
    with safe_open(DEMO_PRIOR, "pt") as file:
        names = [k for k in file.keys() if "taesd_" in k]  # noqa: SIM118 - not a dict
        known = {k.partition(".")[2]: tuple(file.get_tensor(k).shape) for k in names}
    for part, state in zip(
        ("encoder", "decoder"), taesd.halves(taesd.Autoencoder().state_dict()), strict=True
    ):
        ours = {f"taesd_{part}.{key}": tuple(value.shape) for key, value in state.items()}
        assert ours == {k: v for k, v in known.items() if k.startswith(f"taesd_{part}")}


def test_written_autoencoders_compute_the_same_after_reading(tmp_path):
    model = tiny_autoencoder().half().float()
    prior.write_autoencoder(tmp_path, model)
    again = prior.read_autoencoder(tmp_path)
    x = torch.rand(2, 3, 24, 32)
    assert torch.equal(again.encode(x), model.encode(x))
    assert torch.equal(again.decode(model.encode(x)), model.decode(model.encode(x)))


def test_the_teacher_is_at_no_distance_from_itself():
    model = tiny_autoencoder()
    images = torch.randint(0, 256, (3, 3, 32, 32)).to(torch.uint8)
    measured = autoencoder.evaluate(model, model, images)
    assert measured["distance"] == 0
    assert measured["psnr"] == measured["to_teacher"] == measured["from_teacher"]


def test_an_offset_of_the_latents_is_measured_in_their_spread():
    model, teacher = tiny_autoencoder(), tiny_autoencoder()
    images = torch.randint(0, 256, (3, 3, 32, 32)).to(torch.uint8)
    spread = autoencoder.latent_spread(teacher, images)
    model.encoder[-1].bias.add_(0.3 * spread.flatten())  # type: ignore[operator]
    assert autoencoder.evaluate(model, teacher, images)["distance"] == pytest.approx(0.3, 1e-3)


@pytest.mark.parametrize(
    ("more", "parts"), [([], {"encoder", "decoder"}), (["--decoder-only"], {"decoder"})]
)
def test_an_autoencoder_learns_from_a_folder(album, tmp_path, more, parts):
    teacher, out = tmp_path / "teacher", tmp_path / "out"
    prior.write_autoencoder(teacher, tiny_autoencoder())
    folders = ["--teacher", str(teacher), "--work", str(tmp_path / "run"), "--out", str(out)]
    small = ["--images", str(album), "--steps", "2", "--side", "32", "32"]
    autoencoder.main([*folders, *small, *more])
    before, after = (prior.read_autoencoder(f).state_dict() for f in (teacher, out))
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == parts


# The best linear denoiser


def test_the_covariance_of_single_cells_is_the_sample_covariance():
    crops = torch.randn(500, 3, 1, 1, dtype=torch.float64) + 2
    mean, lags = autocovariance(crops)
    flat = crops.flatten(1)
    torch.testing.assert_close(mean, flat.mean(0))
    torch.testing.assert_close(covariance(lags), torch.cov(flat.T, correction=0))


def moving_average(count: int, side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (count, 2, side, side) of a Gaussian field, and its covariance matrix."""
    kernel = torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    white = torch.randn(
        count, 2, side + 1, side + 1, generator=torch.Generator().manual_seed(seed)
    ).double()
    fields = torch.nn.functional.conv2d(white, kernel)
    units = torch.eye(2 * (side + 1) ** 2).double().unflatten(1, (2, side + 1, side + 1))
    linear = torch.nn.functional.conv2d(units, kernel).flatten(1)
    return fields, linear.T @ linear


def test_the_covariance_of_a_stationary_field_is_found():
    fields, truth = moving_average(4000, 4, seed=2)
    mean, lags = autocovariance(fields)
    assert float(mean.abs().max()) < 0.05
    assert float((covariance(lags) - truth).norm() / truth.norm()) < 0.05


@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.9])
def test_wiener_is_the_closed_form_on_gaussian_data(sigma):
    fields, truth = moving_average(3000, 3, seed=4)
    mean = torch.tensor([0.7, -0.4]).double()
    z0 = fields + mean[:, None, None]
    noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(6)).double()
    x = (1 - sigma) * z0 + sigma * noise
    keep, unit = 1 - sigma, torch.eye(len(truth)).double()
    gain = keep * truth @ torch.linalg.inv(keep**2 * truth + sigma**2 * unit)
    wanted = (x - keep * mean[:, None, None]).flatten(1) @ gain.T
    wanted = wanted.view_as(x) + mean[:, None, None]
    found = Wiener.of(mean, truth).denoise(x, sigma)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    error = float((found - z0).square().mean())
    least = float(torch.trace(truth - keep * gain @ truth)) / len(truth)
    assert error == pytest.approx(least, rel=0.05)
    fitted = Wiener.fit(z0).denoise(x, sigma)
    assert float((fitted - z0).square().mean()) == pytest.approx(least, rel=0.06)


def test_the_gain_over_wiener_of_wiener_itself_is_nothing():
    fields, truth = moving_average(64, 4, seed=7)
    wiener = Wiener.of(torch.zeros(2).double(), truth)
    held = flow.HeldOut(fields, wiener)

    class Linear(torch.nn.Linear):
        def forward(self, hidden_states, timestep, **_):
            sigma = float(timestep[0]) / 1000
            return ((hidden_states - wiener.denoise(hidden_states, sigma)) / sigma,)

    report = held.report(Linear(1, 1))
    assert set(report["gain"]) == {str(level) for level in flow.LEVELS}
    assert all(abs(gain) < 1e-3 for gain in report["gain"].values())


# Flow


def plan(**changes) -> flow.Plan:
    small = {"steps": 6, "layers": 1, "cells": 64, "windows": 6, "first_shards": 1, "shards": 3}
    often = {"shard_every": 2, "save_every": 1, "log_every": 1, "held_out": 4, "side": TINY}
    return flow.Plan(**{**small, **often, **changes})  # type: ignore[arg-type]


def test_windows_hold_crops_of_every_shape(album, tmp_path):
    train, _ = photos.load(album, ["scenes/*[05].png"])
    shards = latents.Shards(tmp_path, tiny_autoencoder(), train, 8, TINY)
    shards.grow(2)
    generator = torch.Generator().manual_seed(1)
    for shape in shards.shapes:
        assert shards.draw(3, shape, generator).shape == (3, 16, *shape)
    assert shards.batch(64, generator).shape[1] == 16
    again = latents.Shards(tmp_path / "again", tiny_autoencoder(), train, 8, TINY)
    again.grow(2)
    assert all(torch.equal(a, b) for a, b in zip(shards.latents, again.latents, strict=True))


def test_a_flow_that_was_stopped_ends_with_the_same_weights(album, tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    train, tune = photos.load(album, ["scenes/*[05].png"])
    model = tiny_autoencoder()
    whole = flow.train(tmp_path / "a", model, train, tune, plan()).state_dict()

    update = flow.Run.update

    def stop(run):
        if run.step == 3:
            raise KeyboardInterrupt
        update(run)

    with monkeypatch.context() as patch:
        patch.setattr(flow.Run, "update", stop)
        with pytest.raises(KeyboardInterrupt):
            flow.train(tmp_path / "b", model, train, tune, plan())
    again = flow.train(tmp_path / "b", model, train, tune, plan()).state_dict()
    assert all(torch.equal(again[key], value) for key, value in whole.items())
    changed = flow.network(1).state_dict()
    assert not torch.equal(whole["proj_out.weight"], changed["proj_out.weight"])


def test_noise_levels_are_mostly_below_a_half():
    sigma = flow.times(20_000, torch.Generator().manual_seed(1))
    assert 0 < float(sigma.min()) < float(sigma.max()) < 1
    # 65 % of P(-0.9 + 0.9 n < 0) = 0.841, and 35 % of a half.
    assert float((sigma < 0.5).float().mean()) == pytest.approx(0.722, abs=0.001)


# The command


def test_a_folder_of_pictures_becomes_a_prior(tmp_path, capsys):
    pytest.importorskip("diffusers")
    album, teacher = tmp_path / "album", tmp_path / "teacher"
    for k in range(4):
        photograph(album / f"{k}.png", k)
    prior.write_autoencoder(teacher, tiny_autoencoder(taesd.WIDTH))
    out, work = tmp_path / "mine.safetensors", tmp_path / "work"
    tiny = ["--side", "32", "--measure", "2"]
    common = ["--images", str(album), "--work", str(work), "--batch", "2", *tiny]
    small = ["--layers", "1", "--windows", "2", "--shards", "1"]
    first = ["--start", str(teacher), "--out", str(out), "--steps", "14"]
    assert main([*common, *small, *first]) == 0
    assert "14 steps of" in capsys.readouterr().out
    file = Checkpoint(out)
    transformer, known = load_transformer(file), load_autoencoder(file)
    assert known is not None
    assert (known.factor, known.offset) == pytest.approx((1, 0), abs=1e-6)
    trained = flow.read(work)
    z, sigma = torch.randn(1, 16, 16, 24), torch.tensor([0.4])
    wanted = flow.velocity(trained.half().float(), z, sigma)
    assert float(wanted.detach().std()) > 0
    torch.testing.assert_close(flow.velocity(transformer.float(), z, sigma), wanted)
    x = torch.rand(1, 3, 128, 136)
    read = prior.read_autoencoder(out)
    torch.testing.assert_close(known.module.float().encoder(x * 2 - 1), read.encode(x))
    # A prior can be trained further on other pictures.
    second = tmp_path / "second.safetensors"
    more = ["--start", str(out), "--out", str(second), "--steps", "1", "--windows", "2"]
    arguments = ["--images", str(album), "--work", str(tmp_path / "more"), *tiny, *more]
    assert main([*arguments, "--shards", "1"]) == 0
    assert load_file(second).keys() == load_file(out).keys()


def test_latents_that_are_not_sd3s_are_refused(tmp_path, capsys):
    assert main(["--images", str(tmp_path), "--start", str(DEMO_PRIOR)]) == 1
    assert "scale" in capsys.readouterr().err
