"""Several restorations of a photo in one run, and their comparison."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.restoration.several import Several

from .comfyui import Failed
from .graphs import demo, told, value

RUNS = {
    "FlowDPS": {"steps": 2},
    "Refine": {"preset": "fast", "steps": 2, "denoise": 0.6},
}


def pair(problem):
    """A measurement of two photos."""
    p = problem.prompt
    photos = [p.add("LoadImage", image=name)[0] for name in ("small.png", "other.png")]
    both = p.add("ImageBatch", image1=photos[0], image2=photos[1])
    inputs = p[problem.measurement.id]["inputs"]
    return p.ours("EncodeMeasurement", **{**inputs, "image": both[0]})


@pytest.mark.parametrize("method", RUNS)
def test_samples_are_those_of_a_repeated_latent(server, method):
    """The same noise and the same pictures, the first of which is that of a plain run."""
    problem = demo()
    p = problem.prompt
    latent = p.add("RepeatLatentBatch", samples=problem.measurement[2], amount=3)
    runs = {
        "plain": problem.sampler(method, **RUNS[method]),
        "two": problem.sampler(method, samples=2, **RUNS[method]),
        "three": problem.sampler(method, samples=3, **RUNS[method]),
        "repeated": problem.sampler(method, latent=latent[0], **RUNS[method]),
    }
    for name, run in runs.items():
        p.record(run[1], f"samples_{name}")
    server.run(p)
    plain, two, three, repeated = (value(server, f"samples_{name}") for name in runs)
    assert torch.equal(three, repeated)
    assert three.shape == (3, 64, 64, 3)
    torch.testing.assert_close(three[:1], plain, atol=2e-3, rtol=0)
    torch.testing.assert_close(three[:2], two, atol=2e-3, rtol=0)
    assert float((three[0] - three[1]).abs().mean()) > 2e-3


def test_samples_of_two_photos_are_in_the_order_of_the_photos(server):
    """All photos once, then all again; with a latent connected, and from one that has places."""
    problem = demo()
    p = problem.prompt
    both = pair(problem)
    given = {**RUNS["Refine"], "measurement": both[0]}
    one = p.add("LatentFromBatch", samples=both[2], batch_index=1, length=1)
    runs = {
        "plain": problem.sampler("Refine", **given),
        "empty": problem.sampler("Refine", samples=2, **given),
        "latent": problem.sampler("Refine", samples=2, latent=both[2], **given),
        "places": problem.sampler("Refine", samples=2, latent=one[0], **RUNS["Refine"]),
        "repeated": problem.sampler(
            "Refine",
            latent=p.add("RepeatLatentBatch", samples=one[0], amount=2)[0],
            **RUNS["Refine"],
        ),
    }
    for name, run in runs.items():
        p.record(run[1], f"order_{name}")
    compared = p.ours("Samples", image=runs["empty"][1], measurement=both[0])
    p.record(compared[0], "order_mean")
    server.run(p)
    plain, empty, latent, places, repeated = (value(server, f"order_{name}") for name in runs)
    assert empty.shape[0] == 4
    torch.testing.assert_close(empty[:2], plain, atol=2e-3, rtol=0)
    assert torch.equal(empty, latent)
    assert torch.equal(places, repeated)
    assert float((empty[:2] - empty[2:]).abs().mean()) < 0.5 * float(
        (empty[::2] - empty[1::2]).abs().mean()
    )
    torch.testing.assert_close(value(server, "order_mean"), (empty[:2] + empty[2:]) / 2)


def test_they_are_compared(server):
    problem = demo()
    p = problem.prompt
    run = problem.sampler("FlowDPS", samples=3, **RUNS["FlowDPS"])
    given = {"image": run[1], "measurement": problem.measurement[0]}
    compared = p.ours("Samples", calibration=2.0, **given)
    p.record(run[1], "compared_all")
    names = ("mean", "spread", "best", "sheet")
    for slot, name in enumerate(names):
        p.record(compared[slot], f"compared_{name}")
    report = p.record(compared[4], "compared_report")
    outputs = server.run(p)
    x = value(server, "compared_all").movedim(-1, 1) * 2 - 1
    several = Several(x, [1.0] * 3, 2.0)
    mean, spread, best, sheet = (value(server, f"compared_{name}") for name in names)
    torch.testing.assert_close(mean, (several.mean.movedim(1, -1) + 1) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(spread, several.map[:, 0], atol=1e-4, rtol=0)
    found = [bool((best[0] - (each.movedim(0, -1) + 1) / 2).abs().max() < 1e-5) for each in x]
    assert sum(found) == 1
    assert f"sample {found.index(True) + 1} fits best" in told(outputs, report)
    assert sheet.shape[0] == 1
    assert sheet.shape[1] > 128


def test_a_single_restoration_is_not_compared(server):
    problem = demo()
    p = problem.prompt
    run = problem.sampler("Refine", **RUNS["Refine"])
    p.record(p.ours("Samples", image=run[1], measurement=problem.measurement[0])[0], "refused")
    with pytest.raises(Failed, match="expected at least 2 restorations of every photo"):
        server.run(p)
