"""``flowdps film``: what is restored, written and refused."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves
from comfyui_flowdps.cli import film as verb
from comfyui_flowdps.cli.arguments import parse
from comfyui_flowdps.cli.command import main
from comfyui_flowdps.operators import Cadence, Exposure, Fields
from comfyui_flowdps.restoration import film, images, video

from ..restoration.test_video import packets, with_sound
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


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def stops(monkeypatch):
    """Lets runs be interrupted when the model is run for the given time; counts how often it is."""
    calls, real = [], film.drawn

    def at(count):
        calls.clear()

        def drawn(*given):
            calls.append(given)
            if len(calls) == count:
                raise KeyboardInterrupt
            return real(*given)

        monkeypatch.setattr(film, "drawn", drawn)
        return calls

    return at


@pytest.fixture
def shots(tmp_path):
    """A film of two shots, of 9 and 7 frames."""
    folder = tmp_path / "in"
    folder.mkdir()
    for k, x in enumerate([*frames(9), *(x.flip(2) * -0.8 for x in frames(7))]):
        images.save_png(x, folder / f"{k}.png")
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ["--wrong", "grainy"],
        ["--wrong", "old video", "--same-rate"],
        ["--wrong", "grainy", "--dropped", "4"],
        ["--wrong", "grainy", "--exposure", "3", "--same-rate", "--flicker"],
    ],
    ids=" ".join,
)
def test_an_interrupted_film_goes_on(model, shots, tmp_path, stops, capsys, options):
    """Whatever happens over time: nothing is restored twice but the window that was not finished,
    and all frames are those of an undisturbed run."""
    words = [shots, tmp_path / "out", *options, "--window", "3", "--steps", "1"]
    words = ["film", *map(str, words)]
    calm = [*words[:2], str(tmp_path / "calm"), *words[3:]]
    calls = stops(0)
    assert main(calm) == 0
    whole = len(calls)
    assert whole > 4
    done = 0
    for count in (2, 3):
        calls = stops(count)
        assert main(words) == 130
        assert "run it again to restore the remaining frames" in capsys.readouterr().err
        done += len(calls) - 1
        assert not (tmp_path / "out").exists()
    calls = stops(0)
    assert main(words) == 0
    assert "frames were finished before" in capsys.readouterr().out
    assert len(calls) == whole - done
    assert files(tmp_path / "out") == files(tmp_path / "calm")
    assert not (tmp_path / "out.unfinished").exists()


def test_the_beginning_of_another_film_is_left_alone(model, shots, tmp_path, stops, capsys):
    stops(3)
    words = ["--wrong", "grainy", "--window", "3"]
    assert run(shots, tmp_path / "out", *words) == 130
    work = tmp_path / "out.unfinished"
    there = files(work / "film")
    assert there
    for other in (["--seed", "1"], ["--window", "4"]):
        assert run(shots, tmp_path / "out", *words, *other) == 2
        assert "has the beginning of another film" in capsys.readouterr().err
    images.save_png(torch.zeros(1, 3, 32, 32), shots / "3.png")
    assert run(shots, tmp_path / "out", *words) == 2
    assert files(work / "film") == there
    # And a folder that is none of ours.
    (tmp_path / "new.unfinished").mkdir()
    (tmp_path / "new.unfinished" / "precious").write_text("mine")
    assert run(shots, tmp_path / "new", *words) == 2
    assert (tmp_path / "new.unfinished" / "precious").read_text() == "mine"


def test_two_runs_do_not_make_one_film(shots, tmp_path, capsys, monkeypatch):
    def again(args):
        assert run(shots, tmp_path / "out") == 2
        assert "another run is making" in capsys.readouterr().err
        return CurvedPrior()

    calls = itertools.count()
    priors = {0: again}
    monkeypatch.setattr(verb, "prior_of", lambda args: priors[next(calls)](args))
    assert run(shots, tmp_path / "out") == 0


def test_what_fails_at_once_leaves_nothing(model, shots, tmp_path, stops):
    stops(1)
    assert run(shots, tmp_path / "out.mp4", "--wrong", "grainy") == 130
    assert {file.name for file in tmp_path.iterdir()} == {"in"}


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
@pytest.mark.parametrize("name", ["out", "out.mp4"])
def test_films_killed_at_random_end_as_one_undisturbed_run(tmp_path, name):
    """With all of their sound."""
    av = pytest.importorskip("av")
    source = tmp_path / "in.mp4"
    with_sound(av, source)
    script = [sys.executable, str(Path(__file__).with_name("killed.py")), "0"]
    more = ["--wrong", "grainy", "--prior", "demo", "--effort", "fast", "--window", "2"]

    def run(kills: int, seconds: float, out: str) -> list[str]:
        done = subprocess.run(
            [*script, str(kills), str(seconds), "film", str(source), str(tmp_path / out), *more],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        # Killed between the last step and its exit, the next one finds that the film is there.
        assert done.returncode == 0 or f"{out} exists" in done.stderr, done.stderr
        return done.stdout.split("killed ")[1].split()

    seconds = float(run(0, 0, f"calm-{name}")[-1])
    assert int(run(6, seconds, name)[0]) > 1, "no run was killed"
    calm, killed = tmp_path / f"calm-{name}", tmp_path / name
    if calm.is_dir():
        assert files(killed) == files(calm)
        assert len(files(calm)) == 5
    else:
        assert killed.read_bytes() == calm.read_bytes()
        assert packets(av, killed) == packets(av, source)
    there = {file.name for file in tmp_path.iterdir()} - {f"{name}.unfinished"}
    assert there == {"in.mp4", calm.name, name}
    assert not any((tmp_path / f"{name}.unfinished").rglob("[!.]*")), "no picture is left over"
