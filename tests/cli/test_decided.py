"""``flowdps restore photo.jpg``: what is wrong is found in each photo, said, and repaired."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comfyui_flowdps.cli.arguments import parse
from comfyui_flowdps.cli.command import main
from comfyui_flowdps.cli.request import request_of, wish_of
from comfyui_flowdps.cli.results import mark_of
from comfyui_flowdps.operators import AveragePool, Identity, Jpeg, recipe_from_dict
from comfyui_flowdps.restoration import images
from comfyui_flowdps.restoration.diagnosis import EFFORTS, HEALTHY, STRENGTHS, WRONGS, Wish
from comfyui_flowdps.samplers import METHODS
from PIL import Image

from .test_command import records

QUICK = ("--prior", "demo", "--effort", "fast")


def restore(*arguments) -> int:
    """Exit code of ``flowdps restore``."""
    try:
        return main(["restore", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


def flat(size=(72, 56)) -> np.ndarray:
    """A sharp picture without grain, (height, width, 3) of 0 to 255."""
    x = np.full((size[1], size[0], 3), 90.0)
    x[12:30, 20:50] = (200, 120, 40)
    x[35:50, 8:30] = (30, 60, 150)
    return x


@pytest.fixture
def folder(tmp_path):
    """A photo with nothing to repair, and one with grain."""
    into = tmp_path / "in"
    into.mkdir()
    grain = np.random.default_rng(0).normal(0, 12, flat().shape)
    for name, x in (("clean.png", flat()), ("grainy.png", flat() + grain)):
        Image.fromarray(np.uint8(x.round().clip(0, 255))).save(into / name)
    return into


def test_each_photo_gets_what_it_needs_and_a_second_run_nothing(tmp_path, folder, picture, capsys):
    with Image.open(picture) as image:
        image.convert("RGB").save(folder / "bad.jpg", quality=12)
    out = tmp_path / "o"
    assert restore(folder, *QUICK, "--batch", 2, "--out", out) == 0
    said = capsys.readouterr().out
    found = {record["restored_file"].split("_")[0]: record for record in records(out)}
    assert set(found) == {"bad", "clean", "grainy"}
    recipes = {name: recipe_from_dict(record["operator"]) for name, record in found.items()}
    assert recipes == {"bad": Jpeg(12), "clean": Identity(), "grainy": Identity()}
    assert found["grainy"]["noise"] == pytest.approx(12 / 127.5, rel=0.15)
    assert found["clean"]["noise"] < found["grainy"]["noise"] / 3
    assert HEALTHY in found["clean"]["notes"]
    assert "JPEG of quality 12" in " ".join(found["bad"]["notes"])
    for name in ("bad", "grainy"):
        assert HEALTHY not in found[name]["notes"]
        assert any("agree" in note for note in found[name]["notes"])
    for record in found.values():
        assert record["task"] is None
        assert record["observed"]
        assert all(note in said for note in record["notes"])
        mark = mark_of(out / record["restored_file"])
        assert mark is not None
        assert mark["report"] == record["notes"]
        assert (mark["wrong"], mark["noise"]) == (Wish().wrong, record["noise"])
    given, kept = (
        np.asarray(Image.open(file)) for file in (folder / "clean.png", out / "clean_restored.png")
    )
    assert np.array_equal(given, kept)
    assert restore(folder, *QUICK, "--batch", 2, "--out", out) == 0
    assert "3 finished before" in capsys.readouterr().out
    assert restore(folder, *QUICK, "--wrong", "grainy", "--out", out) == 0
    assert len(records(out)) == 6


def test_known_pixels_stay_where_only_scratches_are_mended(tmp_path, folder):
    mask = np.zeros((56, 72), np.uint8)
    mask[20:24, 10:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    options = ("--wrong", "scratched", "--mask", tmp_path / "mask.png", *QUICK)
    for samples in (1, 2):
        out = tmp_path / f"o{samples}"
        assert restore(folder / "grainy.png", *options, "--samples", samples, "--out", out) == 0
        (record,) = records(out)
        assert record["operator"]["operator"] == "inpainting"
        given = np.asarray(Image.open(folder / "grainy.png"))
        for part in ("restored", *(f"sample{k + 1}" for k in range(samples) if samples > 1)):
            kept = np.asarray(Image.open(out / record[f"{part}_file"]))
            changed = (kept != given).any(2)
            assert not changed[mask == 0].any()
            assert changed[mask > 0].any()


def test_a_small_photo_grows_and_every_sample_of_a_good_one_is_itself(tmp_path, folder):
    out = tmp_path / "o"
    options = ("--wrong", "small", "--enlarge", 2, *QUICK)
    assert restore(folder / "clean.png", *options, "--out", out) == 0
    (record,) = records(out)
    assert recipe_from_dict(record["operator"]) == AveragePool(2)
    assert (record["height"], record["width"]) == (112, 144)
    assert restore(folder / "clean.png", *QUICK, "--samples", 2, "--out", tmp_path / "p") == 0
    given = np.asarray(Image.open(folder / "clean.png"))
    for part in ("restored", "sample1", "sample2"):
        kept = np.asarray(Image.open(tmp_path / "p" / f"clean_{part}.png"))
        assert np.array_equal(kept, given)
    assert np.asarray(Image.open(tmp_path / "p" / "clean_spread.png")).max() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--wrong", "grainy", "--task", "jpeg"], "--wrong is for photos whose damage is found"),
        (["--strength", "strong", "--estimate", "blur"], "and --estimate states it: choose one"),
        (["--invent", "1", "--kernel", "k.png"], "and --kernel states it: choose one"),
        (["--size", "32x32"], "--size resizes the photos"),
        (["--deg-scale", "4"], "--deg-scale is the number of a task: add --task"),
        (["--effort", "fast", "--preset", "fast"], "--effort and --preset say the same"),
        (["--invent", "1", "--denoise", "0.3"], "--invent and --denoise say the same"),
        (["--invent", "1", "--method", "flowdps"], "--invent is for the method refine"),
        (["--invent", "2"], "invent is 2.0; expected a number from 0 to 1"),
        (["--sensitivity", "-1"], "sensitivity is -1.0; expected a number from 0 to 1"),
        (["--enlarge", "40"], "enlarge is 40; expected a whole number"),
        (["--wrong", "old video", "--enlarge", "2"], "old video cannot be enlarged in one go"),
        (["--wrong", "ugly"], "ugly"),
        (["--noise", "-1"], "the noise level is -1.0"),
        (["--preset", "published"], "refine has no preset 'published'"),
    ],
)
def test_what_excludes_each_other_is_refused_before_work(tmp_path, folder, capsys, options, words):
    assert restore(folder, *options, "--out", tmp_path / "o") == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert words in said
    assert not (tmp_path / "o").exists()


def test_the_words_are_those_of_the_node():
    for name, known in (("wrong", WRONGS), ("strength", STRENGTHS), ("effort", EFFORTS)):
        for word in known:
            wish = wish_of(parse(["restore", "x.png", f"--{name}", word]))
            assert wish == Wish(**{name: word})


@pytest.mark.parametrize("method", METHODS)
def test_what_is_found_goes_with_every_method(method):
    request, damage = request_of(parse(["restore", "x.png", "--method", method]))
    assert (request.method, request.observed) == (method, True)
    assert request.settings == METHODS[method].preset()
    assert (damage.recipe(), damage.noise) == (Identity(), None)


@pytest.mark.parametrize(
    "words",
    [
        ["--task", "sr_bicubic"],
        ["--task", "deblur_gauss", "--observed"],
        ["--estimate", "noise", "--observed"],
    ],
)
def test_what_is_stated_is_not_looked_for(words):
    args = parse(["restore", "x.png", *words])
    assert wish_of(args) is None
    assert request_of(args)[0].observed == ("--observed" in words)


def test_a_mask_alone_states_that_pixels_are_missing(tmp_path):
    images.save_png(torch.zeros(1, 3, 8, 8), tmp_path / "m.png")
    args = parse(["restore", "x.png", "--mask", str(tmp_path / "m.png")])
    assert wish_of(args) is None
