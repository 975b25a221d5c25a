"""The estimators inside ComfyUI: what they find in real files, and that it can be restored."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves, noisy
from comfyui_flowdps.operators import Chain, DefocusBlur, Identity, Jpeg, recipe_from_dict
from comfyui_flowdps.restoration.images import read_image
from PIL import Image

from ..conftest import HELD_OUT
from .comfyui import ROOT, Failed
from .graphs import Prompt, demo, read_log, told, value


def write(server, name, x, **options):
    """An image (1, 3, H, W) in [-1, 1] as a file of the input folder."""
    pixels = ((x[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(server.base / "input" / name, **options)
    return name


def observe(prompt, **links):
    """Encode Measurement of a photo as it is."""
    return prompt.ours("EncodeMeasurement", mode="observed", seed=0, **links)


@pytest.fixture(scope="module")
def scene():
    return dead_leaves(128, 11)


def test_noise_and_blur_are_found(server, scene):
    blurred = noisy(DefocusBlur(4.0).bind((3, 128, 128)).A(scene), 0.03, 1)
    p = Prompt()
    image = p.add("LoadImage", image=write(server, "defocused.png", blurred))
    noise = p.ours("EstimateNoise", image=image[0])
    blur = p.ours("EstimateBlur", image=image[0], family="automatic", noise=0.0, size=31)
    both = [p.record(link, f"found{k}") for k, link in enumerate((noise[0], blur[0], blur[2]))]
    p.record(blur[1], "found_kernel")
    outputs = server.run(p)
    level, operator, report = (told(outputs, node) for node in both)
    assert level == pytest.approx(0.03, rel=0.12)
    assert operator["operator"] == "deblur_defocus"
    assert operator["radius"] == pytest.approx(4, rel=0.06)
    assert report.startswith("defocus blur, radius")
    kernel = value(server, "found_kernel")
    assert kernel.shape[-1] == 3
    assert float(kernel.max()) == 1


def test_a_sharp_picture_has_no_blur_and_a_light_has_a_kernel(server, scene):
    p = Prompt()
    image = p.add("LoadImage", image=write(server, "sharp.png", noisy(scene, 0.01, 2)))
    none = p.ours("EstimateBlur", image=image[0], family="automatic", noise=0.0, size=31)
    dark = torch.full((1, 3, 64, 64), -1.0)
    dark[..., 30, 20] += 40
    star = DefocusBlur(4.0).bind((3, 64, 64)).A(dark)
    light = p.add("LoadImage", image=write(server, "star.png", star))
    mask = torch.full((1, 3, 64, 64), -1.0)
    mask[..., 22:39, 12:29] = 1
    marked = p.add("LoadImageMask", image=write(server, "mark.png", mask), channel="red")
    point = p.ours(
        "EstimateBlur", image=light[0], family="automatic", noise=0.0, size=17, mask=marked[0]
    )
    nodes = [p.record(none[0], "none"), p.record(point[0], "point"), p.record(none[2], "why")]
    outputs = server.run(p)
    nothing, kernel, why = (told(outputs, node) for node in nodes)
    assert nothing == Identity().to_dict()
    assert why.startswith("no blur found")
    found, want = recipe_from_dict(kernel).kernel(), DefocusBlur(4.0).kernel()
    want = torch.nn.functional.pad(want, [(17 - len(want)) // 2] * 4)
    assert float((found * want).sum() / found.norm() / want.norm()) > 0.99


def test_a_free_kernel_comes_with_a_verdict(server, scene):
    """A clear blur is trusted; for a sharp picture the report and the log say not to, and no blur
    is undone."""
    blurred = noisy(DefocusBlur(4.0).bind((3, 128, 128)).A(scene), 0.01, 1)
    sharp = noisy(scene, 0.01, 2)
    p = Prompt()
    reports = []
    for name, x in (("free_blurred.png", blurred), ("free_sharp.png", sharp)):
        image = p.add("LoadImage", image=write(server, name, x))
        found = p.ours("EstimateBlur", image=image[0], family="free", noise=0.0, size=19)
        reports.append(p.record(found[2], name.removesuffix(".png")))
        reports.append(p.record(found[0], f"operator_of_{name.removesuffix('.png')}"))
    outputs = server.run(p)
    clear, kernel, wrong, nothing = (told(outputs, report) for report in reports)
    assert (kernel["operator"], nothing) == ("deblur_kernel", Identity().to_dict())
    assert clear.startswith("a free kernel of 19x19, which explains the photo well")
    assert "not to be trusted" in wrong
    log = read_log(server)
    assert wrong in log
    assert clear not in log


def test_jpeg_files_tell_their_tables(server, scene):
    table = [16 + k % 9 for k in range(64)]
    write(server, "usual.jpg", scene, quality=42, subsampling=0)
    write(server, "own.jpg", scene, qtables=[table, table], subsampling=2)
    p = Prompt()
    usual, own = (p.ours("ReadJpeg", file=name) for name in ("usual.jpg", "own.jpg"))
    nodes = [p.record(link, f"jpeg{k}") for k, link in enumerate((usual[1], usual[2], own[1]))]
    p.record(usual[0], "jpeg_image")
    outputs = server.run(p)
    recipe, quality, special = (told(outputs, node) for node in nodes)
    assert recipe_from_dict(recipe) == Jpeg(42, "4:4:4")
    assert quality == 42
    assert special["luma"] == special["chroma"] == table
    assert special["subsampling"] == "4:2:0"
    there = value(server, "jpeg_image").movedim(-1, 1) * 2 - 1
    torch.testing.assert_close(there, read_image(server.base / "input" / "usual.jpg")[0])


def test_the_built_in_jpeg_goes_into_a_restoration_with_what_came_before(server):
    """Its noise is what compression took, and a blur may lie under it."""
    problem = demo()
    p = problem.prompt
    blur = p.ours("DefocusBlur", radius=1.5, boundary="symmetric")
    read = p.ours("ReadJpeg", file="FlowDPS example.jpg [temp]", operator=blur[0])
    problem.measurement = observe(p, image=read[0], operator=read[1], noise=read[4])
    run = problem.sampler("FlowDPS", preset="thorough", steps=2, inner_steps=1)
    p.record(run[1], "of_jpeg")
    nodes = [p.record(read[k], f"read{k}") for k in (1, 2, 4)]
    outputs = server.run(p)
    recipe, quality, noise = (told(outputs, node) for node in nodes)
    assert recipe_from_dict(recipe) == Chain((DefocusBlur(1.5), Jpeg(10)))
    assert quality == 10
    house = read_image(ROOT / "pictures" / "house.png")[0]
    lost = read_image(ROOT / "pictures" / "house.jpg")[0] - house
    assert noise == pytest.approx(float(lost.square().mean().sqrt()), rel=0.35)
    assert value(server, "of_jpeg").shape == (1, 128, 128, 3)


def test_files_that_are_no_jpeg_are_refused(server, scene):
    (server.base / "input" / "false.jpg").write_bytes(
        (server.base / "input" / "small.png").read_bytes()
    )
    p = Prompt()
    p.record(p.ours("ReadJpeg", file="false.jpg")[2], "never")
    with pytest.raises(Failed, match="is not a JPEG file"):
        server.run(p)
    p = Prompt()
    p.record(p.ours("ReadJpeg", file="missing.jpg")[2], "never")
    with pytest.raises(Failed, match=r"there is no file 'missing\.jpg'"):
        server.run(p)


def test_an_example_teaches_the_operator(server, scene):
    degraded = noisy(torch.nn.functional.avg_pool2d(scene, 2), 0.01, 3)
    p = Prompt()
    clean = p.add("LoadImage", image=write(server, "clean.png", scene))
    seen = p.add("LoadImage", image=write(server, "degraded.png", degraded))
    found = p.ours("OperatorFromExample", clean=clean[0], degraded=seen[0], size=7)
    recipe, noise = p.record(found[0], "recipe"), p.record(found[2], "noise")
    outputs = server.run(p)
    assert told(outputs, noise) == pytest.approx(0.01, rel=0.2)
    operator = recipe_from_dict(told(outputs, recipe)).bind((3, 128, 128))
    assert operator.out_shape == (3, 64, 64)
    other = dead_leaves(128, 12)
    wrong = operator.A(other) - torch.nn.functional.avg_pool2d(other, 2)
    assert float(wrong[..., 3:-3, 3:-3].square().mean().sqrt()) < 0.02


@pytest.mark.parametrize("method", ["FlowDPS", "FlowChef", "PSLD"])
def test_the_pull_ends_at_the_noise_and_the_ratio_is_shown(server, method):
    """Held, no run fits the photo closer than its noise, nor closer than it would by itself; PSLD,
    which jumps over it by itself, comes nearer. The output is the ratio that Measurement Check
    finds, and the log has it too.
    """
    problem = demo(task="identity", noise=0.2)
    p = problem.prompt
    runs = [
        problem.sampler(method, preset="tuned", steps=8, stop_at=stop, seed=3)
        for stop in (0.0, 1.0)
    ]
    ratios = [p.record(run[2], f"ratio{k}") for k, run in enumerate(runs)]
    given = {"measurement": problem.measurement[0], "tolerance": 1.2}
    check = p.record(p.ours("MeasurementCheck", image=runs[1][1], **given)[2], "check")
    outputs = server.run(p)
    free, held = (told(outputs, ratio) for ratio in ratios)
    assert held > 0.9
    assert held >= min(free, 1.0) - 0.02
    assert held < max(free, 1.0) + 0.1
    assert held == pytest.approx(told(outputs, check), rel=1e-3)
    assert f"residual is {held:.2f} times the noise" in read_log(server)


def test_estimates_go_into_a_restoration(server):
    """Noise and operator of a photo flow into Encode Measurement and a sampler, without a number
    typed by hand."""
    problem = demo()
    p = problem.prompt
    picture = read_image(min((HELD_OUT / "test").glob("*.png")))[0]
    photo = noisy(DefocusBlur(3.0).bind((3, 128, 128)).A(picture), 0.02, 4)
    image = p.add("LoadImage", image=write(server, "photo.png", photo))
    blur = p.ours("EstimateBlur", image=image[0], family="automatic", noise=0.0, size=31)
    problem.measurement = observe(p, image=image[0], operator=blur[0], noise=blur[3])
    run = problem.sampler("FlowDPS", preset="tuned", steps=6)
    p.record(run[1], "restored")
    ratio = p.record(run[2], "ratio")
    outputs = server.run(p)
    assert value(server, "restored").shape == (1, 128, 128, 3)
    assert told(outputs, ratio) < 4
