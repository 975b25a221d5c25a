"""Pictures of any size, simulated and observed, and the check of what came back."""

from __future__ import annotations

import pytest
from PIL import Image

from .graphs import demo, told, value

TASKS = ("sr_avgpool", "sr_bicubic", "deblur_gauss", "deblur_motion", "identity")


@pytest.mark.parametrize("vae", [True, False], ids=["with VAE", "without VAE"])
@pytest.mark.parametrize("task", TASKS)
def test_simulated_odd_size(server, task, vae):
    problem = demo("odd.png", task)
    if vae:
        problem.prompt[problem.measurement.id]["inputs"]["vae"] = problem.vae
    p = problem.prompt
    run = problem.sampler("FlowChef", steps=1)
    given = {"image": run[1], "measurement": problem.measurement[0], "tolerance": 1.2}
    for link, name in (
        (run[0], "latent"),
        (run[1], "image"),
        (problem.measurement[1], "seen"),
        (p.ours("MeasurementCheck", **given)[0], "residual"),
    ):
        p.record(link, f"odd_{name}")
    server.run(p)
    small = (14, 19) if task.startswith("sr") else (53, 75)
    assert value(server, "odd_image").shape == (1, 53, 75, 3)
    assert value(server, "odd_seen").shape == (1, *small, 3)
    assert value(server, "odd_residual").shape == (1, *small, 3)
    side = 8 if vae else 16
    cells = tuple(-(-n // side) * side // 8 for n in (53, 75))
    assert value(server, "odd_latent").shape == (1, 16, *cells)


@pytest.mark.parametrize("method", ["FlowDPS", "FlowChef", "PSLD"])
@pytest.mark.parametrize("task", ["sr_avgpool", "sr_bicubic", "deblur_gauss"])
def test_observed_odd_size(server, task, method):
    """The photo is what was seen: four times smaller than the restoration, or of its size."""
    Image.open(server.base / "input" / "odd.png").resize((19, 13)).save(
        server.base / "input" / "odd_small.png"
    )
    name = "odd_small.png" if task.startswith("sr") else "odd.png"
    problem = demo(name, task, mode="observed")
    run = problem.sampler(method, steps=1)
    problem.prompt.record(run[1], "observed")
    problem.prompt.record(problem.measurement[1], "photo")
    problem.prompt.record(problem.prompt.add("LoadImage", image=name)[0], "given")
    server.run(problem.prompt)
    size = (52, 76) if task.startswith("sr") else (53, 75)
    assert value(server, "observed").shape == (1, *size, 3)
    assert float((value(server, "photo") - value(server, "given")).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("picture", "task"),
    [("small.png", "sr_bicubic"), ("odd.png", "sr_avgpool"), ("odd.png", "deblur_gauss")],
)
def test_measurement_check(server, picture, task):
    """A good run passes, the clean picture too, and an unrelated one fails."""
    problem = demo(picture, task, noise=0.1)
    p = problem.prompt
    run = problem.sampler("Refine", preset="tuned")
    other = p.add("LoadImage", image="other.png")
    scaled = p.add(
        "ImageScale",
        image=other[0],
        upscale_method="bilinear",
        width=64 if picture == "small.png" else 75,
        height=64 if picture == "small.png" else 53,
        crop="disabled",
    )
    images = {
        "restored": run[1],
        "clean": p.add("LoadImage", image=picture)[0],
        "unrelated": scaled[0],
    }
    nodes = {}
    for name, image in images.items():
        given = {"image": image, "measurement": problem.measurement[0], "tolerance": 1.2}
        check = p.ours("MeasurementCheck", **given)
        nodes[name] = [p.record(check[slot], name) for slot in (1, 2, 3)]
    outputs = server.run(p)
    said = {name: [told(outputs, node) for node in each] for name, each in nodes.items()}
    for name, passes in (("restored", True), ("clean", True), ("unrelated", False)):
        report, ratio, passed = said[name]
        assert passed is passes, said
        assert report.startswith("passed: " if passes else "failed: ")
        assert (ratio <= 1.2) is passes
    assert 0.85 < said["clean"][1] < 1.15, "the noise itself, and nothing else"
    assert said["unrelated"][1] > 2


def test_identity_of_a_clean_picture_has_no_residual(server):
    """The residual map is grey where the picture agrees with the measurement."""
    problem = demo("small.png", "identity", noise=0.0)
    p = problem.prompt
    given = {"measurement": problem.measurement[0], "tolerance": 1.0}
    check = p.ours("MeasurementCheck", image=p.add("LoadImage", image="small.png")[0], **given)
    p.record(check[0], "grey")
    ratio = p.record(check[2], "ratio")
    outputs = server.run(p)
    assert told(outputs, ratio) == 0
    assert float((value(server, "grey") - 0.5).abs().max()) < 1e-6
