"""Memory modes inside ComfyUI: what they keep differs, the picture does not."""

from __future__ import annotations

import pytest

from .comfyui import Failed
from .graphs import demo, tiny, value

MODES = ("full", "checkpointed", "strips")


def latents(server, problem, method: str, name: str, **inputs):
    """The latents of a short run."""
    run = problem.sampler(method, **inputs)
    problem.prompt.record(run[0], name)
    problem.prompt.record(run[1], f"{name}_image")
    server.run(problem.prompt)
    return value(server, name), value(server, f"{name}_image")


def distance(a, b) -> float:
    return float((a - b).norm() / b.norm())


def kl():
    """The tiny SD3 with its own kind of autoencoder; and the TAESD of its checkpoint."""
    problem = tiny()
    small, problem.vae = problem.vae, problem.prompt.test("LoadKL", file="tiny_kl.safetensors")[0]
    return problem, small


@pytest.mark.parametrize("method", ["FlowDPS", "PSLD"])
def test_every_mode_gives_the_same_picture(server, method):
    found = {
        mode: latents(server, kl()[0], method, f"memory_{mode}", memory=mode)[0] for mode in MODES
    }
    assert distance(found["checkpointed"], found["full"]) < 1e-5
    assert distance(found["strips"], found["full"]) < 2e-3


def test_the_tiny_vae_guides_and_the_vae_makes_the_picture(server):
    problem, small = kl()
    z, image = latents(server, problem, "FlowDPS", "tiny", memory="tiny", tiny_vae=small)
    problem, problem.vae = kl()
    alone, other = latents(server, problem, "FlowDPS", "alone", memory="full")
    assert distance(z, alone) < 1e-4, "the latents are those of a run with the small VAE alone"
    assert distance(image, other) > 1e-2, "the picture is the VAE's"
    problem, _ = kl()
    full, _ = latents(server, problem, "FlowDPS", "own", memory="full")
    assert distance(z, full) > 1e-3


def test_a_run_that_runs_out_of_memory_goes_on_with_less(server):
    def run(how: str):
        problem = demo()
        problem.vae = problem.prompt.test("Saboteur", vae=problem.vae, at=3, how=how)[0]
        return latents(server, problem, "FlowDPS", f"oom_{how}", memory="full")[0]

    want = run("nothing")
    before = server.log.read_text(errors="replace").count("out of memory: going on with")
    assert distance(run("memory"), want) < 1e-5
    log = server.log.read_text(errors="replace")
    assert log.count("out of memory: going on with") == before + 1
    assert "checkpointed instead of full" in log


def test_what_a_run_took_is_in_the_log(server):
    latents(server, demo(), "FlowDPS", "counted", steps=3, memory="strips")
    line = server.log.read_text(errors="replace").rsplit("flowdps: transformer 3", 1)[-1]
    assert line.startswith(", decoder 9, decoder gradient 9, ")
    assert "gradient strips" in line.splitlines()[0]


def test_without_a_tiny_vae_the_one_that_comes_along_guides_sd3(server):
    problem, _ = kl()
    z, image = latents(server, problem, "FlowDPS", "built_in", memory="tiny")
    line = server.log.read_text(errors="replace").rsplit("flowdps: transformer", 1)[-1]
    assert "gradient tiny" in line.splitlines()[0]
    assert bool(z.isfinite().all() and image.isfinite().all())
    full, _ = latents(server, kl()[0], "FlowDPS", "built_in_not", memory="full")
    assert distance(z, full) > 1e-3


def test_a_tiny_vae_needs_no_other(server):
    problem = tiny()
    problem.prompt.add("PreviewImage", images=problem.sampler("FlowDPS", memory="tiny")[1])
    with pytest.raises(Failed, match="the VAE is a tiny one already: choose strips"):
        server.run(problem.prompt)


def refused(server, words: str, file: str = "", **inputs):
    problem, _ = kl()
    if file:
        inputs["tiny_vae"] = problem.prompt.add("VAELoader", vae_name=file)[0]
    image = problem.sampler("FlowDPS", **inputs)[1]
    problem.prompt.add("PreviewImage", images=image)
    with pytest.raises(Failed, match=words):
        server.run(problem.prompt)


def test_modes_that_cannot_be_are_refused(server):
    refused(server, "small", memory="small")
    refused(server, "the tiny_vae has 4 latent channels", "four_channels.safetensors")
