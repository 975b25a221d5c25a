"""``flowdps film``: what is restored, written and refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves
from comfyui_flowdps.cli import film as verb
from comfyui_flowdps.cli.arguments import parse
from comfyui_flowdps.cli.command import main
from comfyui_flowdps.operators import Cadence, Exposure, Fields
from comfyui_flowdps.restoration import images, video

from ..samplers.test_samplers import CurvedPrior


def frames(count=6, side=32):
    scene, g = dead_leaves(80, 1), torch.Generator().manual_seed(0)
    return [
        scene[..., :side, k : k + side] + 0.1 * torch.randn(1, 3, side, side, generator=g)
        for k in range(count)
    ]


@pytest.fixture
def model(monkeypatch):
    """A prior that is known, and loads at once."""
    monkeypatch.setattr(verb, "prior_of", lambda args: CurvedPrior())


@pytest.fixture
def sequence(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for k, x in enumerate(frames()):
        images.save_png(x, folder / f"{k}.png")
    return folder


def run(*words):
    return main(["film", *map(str, words), "--steps", "1", "--effort", "fast"])


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--wrong", "grainy"], 6),
        (["--wrong", "old video"], 12),
        (["--wrong", "old video", "--same-rate"], 6),
        (["--wrong", "grainy", "--dropped", "4"], 8),
        (["--wrong", "grainy", "--exposure", "2", "--flicker"], 12),
        (["--wrong", "scratched", "--flicker", "--window", "2", "--reach", "1"], 6),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_sequence_of_pictures(model, sequence, tmp_path, capsys, options, count):
    assert run(sequence, tmp_path / "out", *options) == 0
    written = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in written] == [f"{k:06d}.png" for k in range(1, count + 1)]
    x, _ = images.read_image(written[0])
    assert x.shape == (1, 3, 32, 32)
    told = capsys.readouterr().out
    assert "shot 1: Its grain is" in told
    assert f"{count} frames in 1 shot:" in told


def test_a_stated_degradation(model, sequence, tmp_path):
    given = ["--task", "sr_avgpool", "--deg-scale", "2", "--noise", "0.1"]
    words = map(str, ["film", sequence, tmp_path / "out", *given, "--steps", "1"])
    assert main(list(words)) == 0
    x, _ = images.read_image(tmp_path / "out" / "000001.png")
    assert x.shape == (1, 3, 64, 64)


def test_a_video_keeps_rate_and_size(model, tmp_path):
    pytest.importorskip("av")
    video.write(tmp_path / "in.mp4", frames(4), Fraction(24000, 1001))
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", "--wrong", "old video") == 0
    source = video.Source.of(tmp_path / "out.mp4")
    assert source.rate == Fraction(48000, 1001)
    assert len(list(source.frames())) == 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--exposure", "0"], "averaged frames is 0"),
        (["--dropped", "1"], "from 2 to 64"),
        (["--exposure", "2", "--dust"], "--dust cannot be told"),
        (["--estimate", "jpeg"], "--wrong 'bad JPEG'"),
        (["--wrong", "grainy", "--task", "identity"], "choose one"),
        (["--window", "0"], "window is 0"),
        (["--reach", "-1"], "reach is -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_are_refused_before_the_model_is_loaded(
    sequence, tmp_path, capsys, monkeypatch, options, words
):
    monkeypatch.setattr(verb, "prior_of", lambda args: pytest.fail("loaded"))
    assert main(["film", str(sequence), str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_nothing_is_overwritten(sequence, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(verb, "prior_of", lambda args: pytest.fail("loaded"))
    assert main(["film", str(sequence), str(sequence)]) == 2
    assert "exists; choose another name" in capsys.readouterr().err


def test_options_of_restore_that_a_film_has_no_use_for_are_not_there(capsys):
    given = {
        "--mask": "1",
        "--samples": "1",
        "--batch": "1",
        "--size": "64x64",
        "--engine": "plain",
    }
    for option, value in given.items():
        parse(["restore", "a", option, value])
        with pytest.raises(SystemExit):
            parse(["film", "a", "b", option, value])
    args = parse(["film", "a", "b", "--fields", "bottom", "--rate", "24000/1001"])
    assert args.rate == Fraction(24000, 1001)
    assert verb.over_time_of(args) == Fields("bottom")
    assert verb.over_time_of(parse(["film", "a", "b", "--exposure", "3"])) == Exposure(3)
    assert verb.over_time_of(parse(["film", "a", "b", "--dropped", "3"])) == Cadence(3, (0, 1))
    assert verb.over_time_of(parse(["film", "a", "b"])) is None


@pytest.mark.parametrize("option", ["--engine ray", "--server x", "--batch 2", "--width 64"])
def test_options_of_photos_are_none_of_a_film(sequence, tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        run(sequence, tmp_path / "out", *option.split())
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize(("wrong", "count"), [("grainy", 4), ("old video", 8)])
def test_a_clean_film_is_passed_on_only_where_nothing_else_is_done(
    model, tmp_path, capsys, wrong, count
):
    folder = tmp_path / "in"
    folder.mkdir()
    smooth = torch.linspace(-0.5, 0.5, 48).expand(1, 3, 48, 48)
    for k in range(4):
        images.save_png(smooth, folder / f"{k}.png")
    assert run(folder, tmp_path / "out", "--wrong", wrong) == 0
    assert len(list((tmp_path / "out").iterdir())) == count
    told = capsys.readouterr().out
    assert "the photo is passed on" not in told
    assert ("its frames are passed on as they are" in told) == (wrong == "grainy")
