"""What an artist asks of the nodes: as many versions as were wanted, a verdict, and a Cancel that
works."""

from __future__ import annotations

import time

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves

from .comfyui import Failed
from .graphs import DEMO, Prompt, demo, told, value
from .test_estimation import write
from .test_photo import GIVEN
from .test_sampling import NAMES

every = pytest.mark.parametrize("method", NAMES)


@every
def test_batch_size_holds_whether_the_latent_is_connected_or_not(server, method):
    problem = demo(batch_size=2)
    p = problem.prompt
    p.record(problem.sampler(method, steps=2)[1], "alone")
    p.record(problem.sampler(method, steps=2, latent=problem.measurement[2])[1], "wired")
    server.run(p)
    alone, wired = value(server, "alone"), value(server, "wired")
    assert alone.shape == (2, 64, 64, 3)
    assert float((alone[0] - alone[1]).abs().max()) > 0
    torch.testing.assert_close(alone, wired, atol=1e-5, rtol=0)


def test_samples_come_of_every_version(server):
    problem = demo(batch_size=2)
    problem.prompt.record(problem.sampler(steps=1, samples=2)[1], "four")
    server.run(problem.prompt)
    assert len(value(server, "four")) == 4


@every
def test_a_sampler_gives_its_verdict_and_a_before_and_after(server, method):
    """The verdict has the ratio of the output residual; the picture, photo and result in it."""
    problem = demo(picture="odd.png")
    p = problem.prompt
    sampler = problem.sampler(method, steps=2)
    ratio, said = p.record(sampler[2], "ratio"), p.record(sampler[3], "said")
    p.record(sampler[1], "image")
    p.record(sampler[4], "both")
    outputs = server.run(p)
    assert f"it differs by {told(outputs, ratio):.2f} times the noise." in told(outputs, said)
    agrees = told(outputs, ratio) <= 1.3
    assert told(outputs, said).startswith("The result agrees") == agrees
    image, both = value(server, "image"), value(server, "both")
    assert both.shape == (1, 53, 150, 3)
    assert torch.equal(both[:, :, 75:], image)
    assert float((both[:, :, :75] - image).abs().mean()) < 0.2, "the same scene"


LARGE = 1200, 800
"""Width and height of a photo that takes long. The bar moves meanwhile."""


def wide(server, name="wide_scene.png", times=1, **options):
    """The file of such a photo, or of a larger one."""
    size = tuple(times * n for n in LARGE[::-1])
    scene = torch.nn.functional.interpolate(dead_leaves(256, 5), size)
    return write(server, name, scene, **options)


def estimates(server, p, which):
    """What a node that takes long makes of a photo."""
    if which == "JPEG":
        return p.ours("ReadJpeg", file=wide(server, "wide_scene.jpg", 3, quality=30))[3]
    photo = p.add("LoadImage", image=wide(server))[0]
    if which == "noise":
        many = p.add("RepeatImageBatch", image=photo, amount=16)
        return p.ours("EstimateNoise", image=many[0])[1]
    if which == "example":
        soft = p.add("ImageBlur", image=photo, blur_radius=3, sigma=1.5)
        return p.ours("OperatorFromExample", clean=photo, degraded=soft[0], size=41)[3]
    if which == "film":
        prior = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
        many = p.add("RepeatImageBatch", image=photo, amount=4)
        given = {"image": many[0], "model": prior[0], "vae": prior[2], "wrong": "blurred"}
        usual = {"over_time": "nothing", "flicker": False, "effort": "fast", "seed": 0}
        return p.ours("RestoreFilm", **given, **usual)[2]
    if which in ("free", "automatic"):
        size = 61 if which == "free" else 31
        return p.ours("EstimateBlur", image=photo, family=which, noise=0.0, size=size)[2]
    if which == "scratches":
        return p.ours("FindScratches", image=photo, sensitivity=0.5, thickness=5)[1]
    prior = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    given = {"image": photo, "model": prior[0], "vae": prior[2], **GIVEN}
    return p.ours("RestorePhoto", **{**given, "wrong": which})[3]


@pytest.mark.parametrize(
    "which",
    [
        *("free", "automatic", "scratches", "noise", "JPEG", "example", "film"),
        *("find out by itself", "shaken", "bad JPEG", "several at once"),
    ],
)
def test_cancel_stops_an_estimate_within_a_second(server, which):
    p = Prompt()
    p.record(estimates(server, p, which), "never")
    server.wait_until_idle()
    with server.listen(f"cancel-{which.replace(' ', '-')}") as socket:
        prompt_id = server.queue(p, f"cancel-{which.replace(' ', '-')}")
        heard = []
        asked = 0.0
        for message in socket.until_done(prompt_id):
            if not isinstance(message, dict) or message["type"] != "progress":
                continue
            heard.append(message["data"]["value"])
            if heard[-1] > 5 and not asked:
                asked = time.monotonic()
                server.post("/interrupt", {})
        took = time.monotonic() - asked
    assert asked, "no progress was heard"
    assert heard == sorted(heard)
    assert took < 1
    status = server.wait(prompt_id)["status"]
    assert "execution_interrupted" in [kind for kind, _ in status["messages"]]


def test_a_file_is_named_without_its_folder(server):
    (server.base / "input" / "broken.jpg").write_bytes(b"no picture")
    p = Prompt()
    p.record(p.ours("ReadJpeg", file="broken.jpg")[3], "never")
    with pytest.raises(Failed, match=r"broken\.jpg") as refused:
        server.run(p)
    assert str(server.base) not in str(refused.value)
