"""The command as a user types it, on the demo prior: few steps, small pictures."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import noisy
from comfyui_flowdps.cli.command import main
from comfyui_flowdps.operators import DefocusBlur, Jpeg, Kernel, recipe_for_task, recipe_from_dict
from comfyui_flowdps.operators.blurs import line
from comfyui_flowdps.restoration import images
from comfyui_flowdps.samplers import METHODS
from PIL import Image
from safetensors.torch import save_file

TASK = ["--task", "sr_bicubic"]


def restore(*arguments) -> int:
    """Exit code of ``flowdps restore``, with three noise levels and the task sr_bicubic unless said
    otherwise."""
    words = [str(a) for a in arguments]
    words += [] if "--steps" in words else ["--steps", "3"]
    words += [] if {*words} & {"--task", "--mask", "--kernel", "--estimate"} else TASK
    try:
        return main(["restore", *words])
    except SystemExit as stop:
        return int(stop.code or 0)


def records(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def photo(tmp_path, picture):
    """Makes a photo of any size out of a held-out picture."""

    def make(name="photo.png", size=(48, 40)):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        with Image.open(picture) as image:
            image.resize(size).save(path)
        return path

    return make


def test_restoration_beats_bicubic_with_the_default_settings(tmp_path, picture):
    assert main(["restore", str(picture), *TASK, "--out", str(tmp_path)]) == 0
    (record,) = records(tmp_path)
    clean, _ = images.read_image(picture)
    y, _ = images.read_image(tmp_path / record["measurement_file"])
    restored, _ = images.read_image(tmp_path / record["restored_file"])
    assert (tuple(y.shape), tuple(restored.shape)) == ((1, 3, 32, 32), (1, 3, 128, 128))
    simple = torch.nn.functional.interpolate(y, (128, 128), mode="bicubic").clamp(-1, 1)

    def db(x):
        return 10 * np.log10(4 / float((x - clean).square().mean()))

    assert db(restored) > db(simple) + 2
    assert record["psnr"] == pytest.approx(db(restored), abs=0.01)
    assert 0.5 < record["ssim"] < 1
    assert 0.7 < record["residual_ratio"] < 1.5
    expected = {"task": "sr_bicubic", "method": "refine", "seed": 0, "noise": 0.03, "steps": 3}
    assert expected.items() <= record.items()
    assert record["input"] == str(picture)
    with Image.open(tmp_path / record["sheet_file"]) as sheet:
        assert sheet.width > 3 * 128


@pytest.mark.parametrize("task", ["sr_avgpool", "deblur_gauss", "deblur_motion", "identity"])
@pytest.mark.parametrize("method", METHODS)
def test_every_task_with_every_method(tmp_path, photo, task, method):
    assert restore(photo(), "--task", task, "--method", method, "--out", tmp_path / "o") == 0
    (record,) = records(tmp_path / "o")
    assert (record["height"], record["width"]) == (40, 48)


@pytest.mark.parametrize(
    ("task", "method"),
    [
        ("outpainting", "flowdps"),
        ("colorization", "psld"),
        ("bayer", "flowchef"),
        ("interlace", "flowdps"),
        ("cs_walshhadamard", "flowchef"),
        ("jpeg", "flowdps"),
        ("jpeg", "psld"),
        ("jpeg", "refine"),
        ("colorization", "refine"),
    ],
)
def test_measurements_of_other_shapes_are_written_as_pictures(tmp_path, photo, task, method):
    options = ("--task", task, "--method", method, "--deg-scale", 8, "--steps", 2)
    assert restore(photo(size=(50, 60)), *options, "--out", tmp_path / "o") == 0
    measurement, _ = images.read_image(tmp_path / "o" / "photo_measurement.png")
    restored, _ = images.read_image(tmp_path / "o" / "photo_restored.png")
    margin = 16 if task == "outpainting" else 0
    assert measurement.shape[2:] == (60 - margin, 50 - margin)
    assert restored.shape[2:] == (60, 50)
    (record,) = records(tmp_path / "o")
    assert record["residual_ratio"] > 0


def test_an_observed_photo_is_painted_beyond_its_edges(tmp_path, photo):
    options = ("--task", "outpainting", "--deg-scale", 7, "--observed", "--steps", 2)
    assert restore(photo(size=(50, 60)), *options, "--out", tmp_path / "o") == 0
    restored, _ = images.read_image(tmp_path / "o" / "photo_restored.png")
    assert restored.shape[2:] == (74, 64)


@pytest.fixture
def drawn(tmp_path):
    """Writes a grey picture of the given values."""

    def write(name: str, values) -> str:
        Image.fromarray(np.uint8(values)).save(tmp_path / name)
        return str(tmp_path / name)

    return write


def hole(height=60, width=50):
    values = np.zeros((height, width))
    values[20:30] = 255
    return values


def test_a_mask_says_what_is_unknown(tmp_path, photo, drawn):
    """White is grey in the measurement; the rest of an observed photo is as it was."""
    mask, file = drawn("mask.png", hole()), photo(size=(50, 60))
    assert restore(file, "--mask", mask, "--noise", 0, "--out", tmp_path / "o") == 0
    (record,) = records(tmp_path / "o")
    expected = {"task": "inpainting", "mask": mask, "kernel": None}
    assert expected.items() <= record.items()
    assert record["operator"]["operator"] == "inpainting"
    y, _ = images.read_image(tmp_path / "o" / record["measurement_file"])
    clean, _ = images.read_image(file)
    assert float(y[..., 20:30, :].abs().max()) < 0.01
    known = [*range(20), *range(30, 60)]
    torch.testing.assert_close(y[..., known, :], clean[..., known, :], atol=0.01, rtol=0)


def test_what_an_observed_photo_holds_under_the_mask_changes_nothing(tmp_path, photo, drawn):
    """Two photos that differ only where the mask is white are restored to the same picture."""
    mask, file = drawn("mask.png", hole()), photo(size=(50, 60))
    for name, colour in (("one", "white"), ("two", "red")):
        with Image.open(file) as image:
            image.paste(colour, (0, 20, 50, 30))
            (tmp_path / name).mkdir()
            image.save(tmp_path / name / "photo.png")
        options = ("--observed", "--mask", mask, "--out", tmp_path / f"out_{name}")
        assert restore(tmp_path / name, *options) == 0
    one, two = (
        images.read_image(tmp_path / f"out_{n}" / "photo_restored.png")[0] for n in ("one", "two")
    )
    assert torch.equal(one, two)


def test_kernel_task_and_mask_happen_in_that_order(tmp_path, photo, drawn):
    kernel = np.zeros((9, 7))
    kernel[3:6, 2:5] = 200
    files = ("--kernel", drawn("k.png", kernel), "--mask", drawn("m.png", hole(30, 25)))
    options = ("--task", "sr_avgpool", "--deg-scale", 2, "--steps", 2)
    assert restore(photo(size=(48, 64)), *options, *files, "--out", tmp_path / "o") == 0
    (record,) = records(tmp_path / "o")
    names = [each["operator"] for each in record["operator"]["recipes"]]
    assert names == ["deblur_kernel", "sr_avgpool", "inpainting"]
    assert (record["operator"]["recipes"][0]["height"], record["task"]) == (3, "sr_avgpool")
    y, _ = images.read_image(tmp_path / "o" / record["measurement_file"])
    assert y.shape[2:] == (32, 24)


def test_another_mask_under_the_same_name_is_another_run(tmp_path, photo, drawn, capsys):
    mask, file = drawn("mask.png", hole()), photo(size=(50, 60))
    options = (file, "--mask", mask, "--steps", 2, "--out", tmp_path / "o")
    assert restore(*options) == 0
    assert restore(*options) == 0
    assert "1 finished before" in capsys.readouterr().out
    drawn("mask.png", hole().T[:50])
    assert restore(*options) == 0
    assert len(records(tmp_path / "o")) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task", "inpainting"], "--task inpainting needs --mask FILE"),
        (["--task", "deblur_kernel"], "--task deblur_kernel needs --kernel FILE"),
        (["--task", "inpainting", "--kernel", "black.png"], "--task inpainting needs --mask FILE"),
        (["--mask", "nowhere.png"], "no such file: nowhere.png"),
        (["--mask", "white.png"], "white.png: the mask covers the whole picture"),
        (["--kernel", "black.png"], "black.png: the kernel is black"),
    ],
)
def test_bad_masks_and_kernels_get_one_sentence(
    tmp_path, photo, drawn, capsys, monkeypatch, options, words
):
    drawn("white.png", np.full((8, 8), 255))
    drawn("black.png", np.zeros((8, 8)))
    monkeypatch.chdir(tmp_path)
    assert restore(photo(), *options, "--out", tmp_path / "o") == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert words in said
    assert not (tmp_path / "o").exists()


def test_a_size_that_nothing_divides_is_padded_and_said(tmp_path, photo, capsys):
    assert restore(photo(size=(45, 37)), "--out", tmp_path / "o") == 0
    assert "padded by reflection from 45x37 to 48x40" in capsys.readouterr().out
    (record,) = records(tmp_path / "o")
    with Image.open(tmp_path / "o" / record["restored_file"]) as image:
        assert image.size == (45, 37)
    assert record["notes"]


def test_what_each_photo_tells_becomes_its_operator_and_noise(tmp_path, picture, capsys):
    """Two photos in one run: one out of focus, one moved; one batch each, and one line each."""
    clean = images.read_image(picture)[0]
    blurs = {"focus": DefocusBlur(4.0), "moved": Kernel.from_tensor(line(12, 30))}
    for name, recipe in blurs.items():
        y = recipe.bind(tuple(clean.shape[1:])).A(clean)
        images.save_png(noisy(y, 0.01, 3), tmp_path / f"{name}.png")
    files = [tmp_path / f"{name}.png" for name in blurs]
    out = tmp_path / "out"
    assert restore(*files, "--observed", "--estimate", "blur", "--batch", 2, "--out", out) == 0
    focus, moved = records(out)
    assert focus["operator"]["operator"] == "deblur_defocus"
    assert focus["operator"]["radius"] == pytest.approx(4, rel=0.06)
    assert moved["operator"]["operator"] == "deblur_kernel"
    for record in (focus, moved):
        assert record["noise"] == pytest.approx(0.01, rel=0.25)
        assert record["task"] == "identity"
        assert record["estimate"] == ["blur"]
    assert any(note.startswith("motion blur, length 1") for note in moved["notes"])
    assert "focus.png: " in capsys.readouterr().out


def test_a_jpeg_tells_its_tables_a_number_stays_and_the_mask_comes_last(
    tmp_path, picture, drawn, capsys
):
    file = tmp_path / "bad.jpg"
    Image.open(picture).convert("RGB").save(file, quality=15)
    told = ["--observed", "--estimate", "jpeg", "--steps", 1, "--out", tmp_path / "out"]
    assert restore(file, *told) == 0
    mask = drawn("mask.png", hole(128, 128))
    assert restore(file, *told, "--noise", 0.2, "--mask", mask, "--estimate", "noise") == 0
    plain, masked = records(tmp_path / "out")
    assert recipe_from_dict(plain["operator"]) == Jpeg(15)
    lost = images.read_image(file)[0] - images.read_image(picture)[0]
    assert plain["noise"] == pytest.approx(float(lost.square().mean().sqrt()), rel=0.35)
    assert [r["operator"] for r in masked["operator"]["recipes"]] == ["jpeg", "inpainting"]
    assert masked["noise"] == 0.2
    assert restore(file, *told, "--noise", 0.2, "--mask", mask, "--estimate", "noise") == 0
    assert "skipped" in capsys.readouterr().out


def test_every_sentence_tells_sizes_as_width_x_height():
    """As the host does: where code writes two sides, the first of them is the width."""
    root = Path(__file__).parents[2]
    rooms = ("cli", "estimation", "nodes", "operators", "priors", "restoration", "samplers")
    files = [file for room in rooms for file in (root / room).rglob("*.py")]
    found = [
        (file.name, pair)
        for file in files
        for pair in re.findall(r"\{([^{}]+)\}x(?:\"\n\s+f\")?\{([^{}]+)\}", file.read_text("utf-8"))
    ]
    assert len(found) > 25
    for name, pair in found:
        place = [re.search(r"\[(-?\d)\]$", side) for side in pair]
        if all(place):
            first, second = (int(each[1]) for each in place if each)
            assert first > second, (name, pair)
        else:
            assert not re.search("height|tall|bottom", pair[0]), (name, pair)
            assert not re.search("width|wide|right", pair[1]), (name, pair)


def test_size_cuts_and_shrinks(tmp_path, photo, capsys):
    assert (
        restore(photo(size=(90, 60)), "--width", 64, "--height", 32, "--out", tmp_path / "o") == 0
    )
    (record,) = records(tmp_path / "o")
    assert (record["height"], record["width"]) == (32, 64)
    assert "90x60 resized and cut to 64x32" in capsys.readouterr().out
    assert restore(photo(size=(300, 200)), "--out", tmp_path / "p") == 0
    assert (records(tmp_path / "p")[0]["height"], records(tmp_path / "p")[0]["width"]) == (128, 192)


def test_observed_enlarges_and_knows_no_scores(tmp_path, photo):
    assert restore(photo(size=(18, 16)), "--observed", "--out", tmp_path / "o") == 0
    (record,) = records(tmp_path / "o")
    assert (record["height"], record["width"]) == (64, 72)
    assert (record["psnr"], record["ssim"]) == (None, None)
    assert record["residual_ratio"] > 0


def test_the_noise_is_on_the_measurement(tmp_path, photo):
    file = photo(size=(64, 64))
    assert restore(file, "--task", "identity", "--noise", 0.1, "--out", tmp_path / "o") == 0
    y, _ = images.read_image(tmp_path / "o" / "photo_measurement.png")
    clean, _ = images.read_image(file)
    inside = clean.abs() < 0.6
    operator = recipe_for_task("identity", None).bind((3, 64, 64))
    assert float((y - operator.A(clean))[inside].std()) == pytest.approx(0.1, rel=0.1)


def test_second_run_does_only_what_is_new(tmp_path, photo, capsys):
    files = [photo("a.png"), photo("b.png", (40, 48))]
    out = tmp_path / "o"
    assert restore(files[0], "--out", out) == 0
    first = (out / "a_restored.png").read_bytes()
    (out / "a_restored.png").touch()
    assert restore(files[0].parent, "--out", out) == 0
    assert "1 finished before" in capsys.readouterr().out
    assert [r["input"] for r in records(out)] == [str(f) for f in files]
    assert restore(*files, "--out", out, "--seed", 1) == 0
    assert len(records(out)) == 4
    assert (out / "a_restored.png").read_bytes() != first


def test_a_line_cut_off_by_a_crash_is_done_again(tmp_path, photo):
    out = tmp_path / "o"
    assert restore(photo(), "--out", out) == 0
    log = out / "results.jsonl"
    log.write_text(log.read_text()[:-20])
    assert restore(photo(), "--out", out) == 0
    assert json.loads(log.read_text().splitlines()[-1])["input"] == str(photo())


def test_batches_change_nothing_and_the_seed_something(tmp_path, photo):
    files = [photo("a.png"), photo("b.png"), photo("c.png", (40, 48))]
    for name, more in (("one", ()), ("two", ("--batch", 2)), ("other", ("--seed", 5))):
        assert restore(*files, "--out", tmp_path / name, *more) == 0
    for stem in "abc":
        one, two, other = (
            images.read_image(tmp_path / name / f"{stem}_restored.png")[0]
            for name in ("one", "two", "other")
        )
        assert float((one - two).abs().max()) <= 2.01 / 255
        assert not torch.equal(one, other)


def test_a_broken_file_is_reported_and_the_rest_go_on(tmp_path, photo, capsys):
    good = photo("b.png")
    (good.parent / "a.png").write_text("no picture")
    (good.parent / "c.png").write_bytes(good.read_bytes()[:100])
    out = tmp_path / "o"
    assert restore(good.parent, "--out", out) == 2
    said = capsys.readouterr().err
    assert "a.png is not an image" in said
    assert "c.png is truncated" in said
    assert [r["input"] for r in records(out)] == [str(good)]
    assert (out / "b_restored.png").exists()


def test_names_that_repeat_do_not_overwrite(tmp_path, photo):
    files = [photo("a.png"), photo("a.jpg")]
    assert restore(*files, "--out", tmp_path / "o") == 0
    assert len({r["restored_file"] for r in records(tmp_path / "o")}) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task", "superres"], "unknown task 'superres'"),
        (["--noise", "-0.1"], "noise level is -0.1"),
        (["--noise", "nan"], "noise level is nan"),
        (["--step-scale", "nan"], "step_scale is nan"),
        (["--step-scale", "-1"], "step_scale is -1"),
        (["--step-size", "15"], "--step-size is now --step-scale, which multiplies the preset's"),
        (["--method", "psld", "--inner-steps", "2"], "inner_steps is 2 and these settings"),
        (["--stop", "-2"], "stop is -2.0; expected -1 (the preset's), 0 (never)"),
        (["--steps", "0"], "steps is 0"),
        (["--steps", "few"], "few"),
        (["--deg-scale", "0"], "0"),
        (["--deg-scale", "nan"], "nan"),
        (["--task", "deblur_motion", "--deg-scale", "4.5"], "4.5"),
        (["--size", "big"], "'big' is not a size"),
        (["--width", "32", "--height", "30"], "the size is 32x30 (width x height); expected 16x16"),
        (["--size", "30x32"], "for what it made, give --width 32 --height 30"),
        (["--size", "32", "--width", "32"], "--size and --width both give the size: choose one"),
        (["--height", "32"], "--height is given alone: add --width"),
        (["--size", "0"], "the size is 0x0 (width x height); expected 16x16"),
        (["--width", "-64", "--height", "64"], "the size is -64x64 (width x height)"),
        (
            ["--width", "64", "--height", "4100"],
            "the size is 64x4100 (width x height); expected 16x16 to 4096x4096",
        ),
        (["--tile", "8"], "the tile is 8 pixels a side; expected 0 (automatic) or from 64 to 768"),
        (["--batch", "-1"], "--batch is -1"),
        (["--method", "dps"], "dps"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--dtype", "int8"], "int8"),
        (["--prior", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--prompt", "a dog"], "prompt"),
        (["--estimate", "blur"], "--estimate looks at photos as they are: add --observed"),
        (["--observed", "--estimate", "jpeg"], "photo.png is not a JPEG file"),
        (["--observed", "--estimate", "noise", "--size", "32x32"], "leave --size out"),
        (["--observed", "--estimate", "jpeg", "--task", "jpeg"], "say the same: choose one"),
    ],
)
def test_bad_options_get_one_sentence(tmp_path, photo, capsys, options, words):
    assert restore(photo(), "--out", tmp_path / "o", *options) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert said.startswith("flowdps")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "o" / "photo_restored.png").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.png", None, "no such file"),
        ("text.png", b"hello", "is not an image"),
        ("tiny.png", (1, 1), "1x1 pixels"),
    ],
)
def test_bad_inputs_get_one_sentence(tmp_path, capsys, name, content, words):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        Image.new("RGB", content).save(path)
    assert restore(path, "--out", tmp_path / "o") == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert words in said
    assert name in said


def test_priors_that_are_none_are_refused(tmp_path, photo, capsys):
    from comfyui_flowdps.priors.built_in import DEMO

    other = tmp_path / "other.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4)}, other)
    truncated = tmp_path / "cut.safetensors"
    truncated.write_bytes(DEMO.file.read_bytes()[:100_000])
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"\x00" * 4096)
    pickled, disguised = tmp_path / "model.ckpt", tmp_path / "sly.safetensors"
    torch.save({"a": torch.zeros(3)}, pickled)
    shutil.copy(pickled, disguised)
    for file, words in (
        (other, "is not an SD3 model"),
        (truncated, "truncated"),
        (garbage, "not a safetensors file"),
        (pickled, "pickle"),
        (disguised, "pickle"),
    ):
        assert restore(photo(), "--prior", file, "--out", tmp_path / "o") == 2
        (said,) = capsys.readouterr().err.strip().splitlines()
        assert words in said, (file.name, said)
        assert file.name in said
    assert not list((tmp_path / "o").glob("*.png"))


def test_nothing_written_is_lost_when_a_later_run_fails(tmp_path, photo):
    out = tmp_path / "o"
    assert restore(photo(), "--out", out) == 0
    before = {f.name: f.read_bytes() for f in out.iterdir()}
    assert restore(photo(), "--prior", "nowhere.safetensors", "--out", out) == 2
    assert before == {f.name: f.read_bytes() for f in out.iterdir()}


def test_results_do_not_go_where_the_inputs_are(photo, capsys):
    folder = photo().parent
    assert restore(folder, "--out", folder) == 2
    assert "choose another folder" in capsys.readouterr().err


def test_bench_prints_one_row_per_method(capsys, tmp_path):
    words = "bench --images 2 --tune-images 1 --steps 2 --batch 2 --methods flowdps --tasks"
    report = tmp_path / "r.json"
    assert main([*words.split(), "SR x8", "--out", str(report)]) == 0
    table = capsys.readouterr().out
    wanted = ["bicubic", "Wiener", "variation", "fit", "ceiling", "flowdps"]
    assert all(word in table for word in wanted)
    rows = json.loads(report.read_text())
    assert {len(row["psnr"]) for row in rows} == {2}
    (flow,) = [row for row in rows if row["method"] == "flowdps"]
    assert flow["transformer"] == 2


def test_several_samples_of_a_photo(tmp_path, photo):
    """Mean, samples, spread and sheet; the first sample is the picture of the plain run."""
    options = ("--method", "flowchef", "--steps", 3)
    file, plain, out = photo(), tmp_path / "plain", tmp_path / "o"
    assert restore(file, *options, "--out", plain) == 0
    assert restore(file, *options, "--samples", 3, "--out", out) == 0
    (one,), (record,) = records(plain), records(out)
    written = {f"photo_{part}.png" for part in ("measurement", "restored", "sheet", "spread")}
    written |= {f"photo_sample{k}.png" for k in (1, 2, 3)}
    assert {file.name for file in out.glob("*.png")} == written
    first, same = (
        np.asarray(Image.open(path))
        for path in (out / record["sample1_file"], plain / one["restored_file"])
    )
    assert np.array_equal(first, same)
    samples = [np.asarray(Image.open(out / f"photo_sample{k}.png"), float) for k in (1, 2, 3)]
    mean = np.asarray(Image.open(out / "photo_restored.png"), float)
    assert np.abs(mean - np.mean(samples, axis=0)).max() <= 1
    grey = np.asarray(Image.open(out / "photo_spread.png"), float)[..., 0]
    deviation = np.sqrt(np.var(samples, axis=0, ddof=1).mean(-1)) / 127.5
    want = 255 * (record["spread_factor"] * deviation / record["spread_white"]).clip(0, 1)
    assert want.std() > 3
    # Samples rounded to grey levels: up to half of one in their deviation.
    level = 255 * record["spread_factor"] * (2 / 255) / record["spread_white"]
    assert np.abs(grey - want).max() < 1 + level / 2
    scores = record["sample_scores"]
    assert scores[0] == {key: one[key] for key in ("psnr", "ssim", "residual_ratio")}
    assert record["psnr"] > np.mean([each["psnr"] for each in scores])
    far = [abs(np.log(each["residual_ratio"])) for each in scores]
    assert record["best_sample"] == 1 + int(np.argmin(far))
    assert record["spread_rms"] > 0
    assert record["samples"] == 3
    with Image.open(out / "photo_sheet.png") as sheet:
        # Four pictures a row: measurement, mean, spread and the samples, then the clean one.
        assert sheet.width > 2 * sheet.height * 0.9
        assert sheet.height > 2 * sheet.width / 4 * 40 / 48


def test_a_photo_with_all_its_samples_is_skipped_and_one_without_is_not(tmp_path, photo, capsys):
    options = ("--method", "refine", "--preset", "fast", "--steps", 1, "--samples", 2)
    file, out = photo(), tmp_path / "o"
    assert restore(file, *options, "--out", out) == 0
    assert restore(file, *options, "--out", out) == 0
    assert "1 finished before" in capsys.readouterr().out
    assert len(records(out)) == 1
    (out / "photo_sample2.png").unlink()
    assert restore(file, *options, "--out", out) == 0
    assert (out / "photo_sample2.png").exists()
    assert len(records(out)) == 2
    assert restore(file, *options[:-2], "--out", out) == 0
    assert len(records(out)) == 3
    assert "samples" not in records(out)[2]
    assert restore(file, *options[:-1], 0, "--out", out) == 2
    assert "samples is 0; expected at least 1" in capsys.readouterr().err
