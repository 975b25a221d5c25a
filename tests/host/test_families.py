"""Other flow models than the demo prior, and what the host's own nodes do to a model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from .comfyui import Failed
from .files import LORA
from .graphs import Problem, Prompt, demo, measured, recorded, tiny, told, value

every = pytest.mark.parametrize("method", ["FlowDPS", "FlowChef", "PSLD"])


def wan(file: str, autoencoder: str, picture: str = "small.png") -> Problem:
    p = Prompt()
    model = p.add("UNETLoader", unet_name=file, weight_dtype="default")
    if autoencoder == "Wan":
        vae = p.test("LoadWanVAE")[0]
    else:
        vae = p.ours("LoadFlowPrior", checkpoint="built-in demo prior", shift=4.0)[2]
    text = p.ours("EmptyConditioning", model=model[0], tokens=2)
    measurement = measured(p, picture, vae=vae)
    return Problem(p, model[0], vae, text[0], measurement)


@every
@pytest.mark.parametrize("loader", ["CheckpointLoaderSimple", "LoadFlowPrior"])
def test_sd3_of_two_cell_patches(server, method, loader):
    problem = tiny(loader=loader)
    problem.prompt.record(problem.sampler(method)[1], "picture")
    problem.prompt.record(problem.sampler(method, step_scale=0.0)[1], "free")
    server.run(problem.prompt)
    picture = value(server, "picture")
    assert picture.shape == (1, 64, 64, 3)
    assert float((picture - value(server, "free")).abs().mean()) > 1e-3


@every
@pytest.mark.parametrize("autoencoder", ["TAESD", "Wan"])
def test_wan_with_a_time_axis(server, wan_file, method, autoencoder):
    """A video model restores a picture as a video of one frame."""
    problem = wan(wan_file, autoencoder)
    run, free = problem.sampler(method), problem.sampler(method, step_scale=0.0)
    p = problem.prompt
    for node, name in ((run, "wan"), (free, "wan_free")):
        p.record(node[0], name)
        p.record(node[1], f"{name}_image")
    server.run(p)
    assert value(server, "wan").shape == (1, 16, 1, 8, 8)
    assert value(server, "wan_image").shape == (1, 64, 64, 3)
    change = value(server, "wan") - value(server, "wan_free")
    assert torch.isfinite(change).all()
    assert float(change.abs().max()) > 1e-4


@pytest.mark.parametrize("through", ["decoder", "model"])
def test_wan_gradients(server, wan_file, through):
    """Through Wan's own decoder against a plain copy; through MODEL against the loss's slope."""
    problem = wan(wan_file, "Wan")
    p = problem.prompt
    latent = p.add("EmptyHunyuanLatentVideo", width=64, height=64, length=1, batch_size=1)
    p.test(
        "Gradient",
        model=problem.model,
        vae=problem.vae,
        positive=problem.positive,
        negative=problem.positive,
        cfg=1.0,
        measurement=problem.measurement[0],
        latent=latent[0],
        through=through,
        emulate="buffer",
        mode="",
        protect=True,
        name=f"wan_{through}",
    )
    server.run(p)
    found = recorded(server, f"wan_{through}")
    got = found["gradient"]
    assert float(got.norm()) > 0
    if through == "decoder":
        assert float((got - found["reference"]).norm() / got.norm()) < 1e-4
    else:
        assert float(found["slope"]) == pytest.approx(float(got.norm()), rel=0.05)


FAMILIES: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("families.json").read_text(encoding="utf-8")
)
"""Every family that was tried: its name, the host's class of it, and what each host did with it."""
IN_PLACE = ("Flux", "Chroma", "Lumina2", "Omnigen2", "QwenImage", "HunyuanVideo")
VIDEO = ("QwenImage", "HunyuanVideo")
MASKED = ("Lumina2", "Omnigen2", "ZImage")


def family(name: str) -> Problem:
    """A small random model of a family, with random text, and an autoencoder of its latents."""
    p = Prompt()
    model = p.test("MakeFamily", family=name)
    if name == "ChromaRadiance":
        vae = p.add("VAELoader", vae_name="pixel_space")[0]
    elif name == "Flux2":
        vae = p.test("LoadFlux2VAE")[0]
    else:
        vae = p.ours("LoadFlowPrior", checkpoint="built-in demo prior", shift=4.0)[2]
    # Some families count the tokens by their mask.
    more = {"maybe_mask": name in MASKED, "maybe_layers": name == "HiDream"}
    text = p.test("Conditioning", width=64, pooled=32, seed=1, **more)
    return Problem(p, model[0], vae, text[0], measured(p, "small.png", vae=vae))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs(server, name):
    """The host finds the family in its weights, and a restoration by it follows the photo. A host
    that does not know it is said to. FLOWDPS_WRITE_FAMILIES=1 notes what was found."""
    version = server.get("/system_stats")["system"]["comfyui_version"]
    version = ".".join(version.split(".")[:3])
    p = Prompt()
    node = p.record(p.test("MakeFamily", family=name)[1], "found")
    found = told(server.run(p), node)
    row = {**FAMILIES[name], version: "runs" if found else "unknown to the host"}
    if os.environ.get("FLOWDPS_WRITE_FAMILIES"):
        FAMILIES[name] = row
        file = Path(__file__).with_name("families.json")
        file.write_text(json.dumps(FAMILIES, indent=1) + "\n", encoding="utf-8")
    assert row == FAMILIES[name]
    if not found:
        return
    assert found == row["class"]
    for method, more in (("Refine", {"denoise": 0.5}), ("FlowDPS", {})):
        problem = family(name)
        p = problem.prompt
        for size in (1.0, 0.0):
            run = problem.sampler(method, step_scale=size, steps=2, **more)
            p.record(run[1], f"{name}_{method}_{size}")
            p.record(run[0], f"{name}_{method}_{size}_latent")
        server.run(p)
        latent = value(server, f"{name}_{method}_1.0_latent")
        assert latent.shape[2:-2] in ((), (1,)), "a video has one frame"
        picture, free = (value(server, f"{name}_{method}_{size}") for size in (1.0, 0.0))
        assert picture.shape == (1, 64, 64, 3)
        assert bool(picture.isfinite().all())
        assert float((picture - free).abs().mean()) > 1e-4


@pytest.mark.parametrize("name", IN_PLACE)
def test_gradient_through_blocks_that_add_in_place(server, name):
    """The gradient is the loss's slope along it, whether blocks are computed again or not."""
    found = {}
    for mode in ("full", "checkpointed"):
        problem = family(name)
        p = problem.prompt
        empty = "EmptyHunyuanLatentVideo" if name in VIDEO else "EmptySD3LatentImage"
        size = {"width": 64, "height": 64, "batch_size": 1}
        latent = p.add(empty, **size, **({"length": 1} if name in VIDEO else {}))
        p.test(
            "Gradient",
            model=problem.model,
            vae=problem.vae,
            positive=problem.positive,
            negative=problem.positive,
            cfg=1.0,
            measurement=problem.measurement[0],
            latent=latent[0],
            through="model",
            emulate="",
            mode=mode,
            protect=True,
            name=f"{name}_{mode}",
        )
        server.run(p)
        found[mode] = recorded(server, f"{name}_{mode}")
    full, again = found["full"], found["checkpointed"]
    length = float(full["gradient"].norm())
    assert length > 0
    assert float(full["slope"]) == pytest.approx(length, rel=0.03)
    assert float((again["gradient"] - full["gradient"]).norm()) < 1e-5 * length


@pytest.mark.parametrize("name", IN_PLACE)
def test_psld_with_every_family(server, name):
    problem = family(name)
    p = problem.prompt
    for size in (1.0, 0.0):
        p.record(problem.sampler("PSLD", step_scale=size, steps=2)[1], f"{name}_{size}")
    server.run(p)
    picture, free = value(server, f"{name}_1.0"), value(server, f"{name}_0.0")
    assert picture.shape == (1, 64, 64, 3)
    assert bool(picture.isfinite().all())
    assert float((picture - free).abs().mean()) > 1e-4


def test_empty_conditioning_has_the_pooled_vector_that_flux_takes(server):
    """Older hosts refuse Flux without one; newer ones take zeros."""
    problem = family("Flux")
    p = problem.prompt
    empty = p.ours("EmptyConditioning", model=problem.model, tokens=4)
    problem.positive = empty[0]
    p.record(problem.sampler("PSLD", steps=2)[1], "flux_empty")
    server.run(p)
    assert bool(value(server, "flux_empty").isfinite().all())


def in_pixels(picture: str = "small.png") -> Problem:
    """Chroma Radiance, small and random, with the host's stand-in for an autoencoder."""
    p = Prompt()
    model = p.test("MakeFamily", family="ChromaRadiance")
    vae = p.add("VAELoader", vae_name="pixel_space")
    text = p.test("Conditioning", width=64, pooled=32, seed=1, maybe_mask=False)
    return Problem(p, model[0], vae[0], text[0], measured(p, picture, vae=vae[0]))


@pytest.mark.parametrize(
    ("method", "preset"),
    [("FlowDPS", "published"), ("FlowDPS", "tuned"), ("PSLD", "published"), ("Refine", "tuned")],
)
def test_a_model_in_pixels(server, method, preset):
    """The latents are the picture, except for a final correction; the photo changes it."""
    problem = in_pixels()
    p, name = problem.prompt, f"pixels_{method}_{preset}"
    more = {"denoise": 0.3} if method == "Refine" else {}
    for size in (1.0, 0.0):
        run = problem.sampler(method, preset=preset, step_scale=size, steps=2, **more)
        p.record(run[0], f"{name}_{size}")
        p.record(run[1], f"{name}_{size}_image")
    server.run(p)
    latents, picture = value(server, f"{name}_1.0"), value(server, f"{name}_1.0_image")
    assert latents.shape == (1, 3, 64, 64)
    assert picture.shape == (1, 64, 64, 3)
    assert bool(latents.isfinite().all())
    assert float((picture - value(server, f"{name}_0.0_image")).abs().mean()) > 1e-4
    if preset == "published":
        shown = ((latents + 1) / 2).clamp(0, 1).movedim(1, -1)
        torch.testing.assert_close(picture, shown, rtol=0, atol=1e-5)


@every
def test_model_that_is_no_flow_is_refused(server, method):
    problem = demo()
    problem.model = problem.prompt.add(
        "ModelSamplingDiscrete", model=problem.model, sampling="eps", zsnr=False
    )[0]
    problem.prompt.record(problem.sampler(method)[0], "never")
    with pytest.raises(Failed, match=r"not a flow model: it predicts noise.*expected a rectified"):
        server.run(problem.prompt)


@every
def test_lora_changes_the_result(server, method):
    problem = tiny()
    p = problem.prompt
    strong, none = (
        p.add("LoraLoaderModelOnly", model=problem.model, lora_name=LORA, strength_model=strength)
        for strength in (1.0, 0.0)
    )
    p.record(problem.sampler(method)[0], "bare")
    p.record(problem.sampler(method, model=strong[0])[0], "lora")
    p.record(problem.sampler(method, model=none[0])[0], "lora_off")
    p.record(problem.sampler(method, steps=3, seed=1, model=problem.model)[0], "bare_again")
    server.run(p)
    bare = value(server, "bare")
    assert torch.equal(bare, value(server, "lora_off"))
    assert torch.equal(bare, value(server, "bare_again"))
    assert float((bare - value(server, "lora")).abs().max()) > 1e-2


@every
def test_control_network(server, method):
    problem = tiny()
    p = problem.prompt
    net = p.add("ControlNetLoader", control_net_name="tiny_control.safetensors")
    image = p.add("LoadImage", image="other.png")
    controlled = p.add(
        "ControlNetApplySD3",
        positive=problem.positive,
        negative=problem.negative,
        control_net=net[0],
        vae=problem.vae,
        image=image[0],
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    texts = {"positive": controlled[0], "negative": controlled[1]}
    p.record(problem.sampler(method, **texts)[0], "controlled")
    p.record(problem.sampler(method)[0], "free")
    server.run(p)
    assert float((value(server, "controlled") - value(server, "free")).abs().max()) > 1e-2


@every
def test_shift_moves_the_hosts_schedule_and_not_ours(server, method):
    """ModelSamplingSD3 decides where the host's schedulers stop; at the same noise levels the
    model answers the same."""
    problem = tiny()
    p = problem.prompt
    shifted = p.add("ModelSamplingSD3", model=problem.model, shift=9.0)
    p.record(problem.sampler(method)[0], "ours")
    p.record(problem.sampler(method, model=shifted[0])[0], "ours_shifted")
    for name, model in (("plain", problem.model), ("shifted", shifted[0])):
        basic = {"model": model, "scheduler": "normal", "steps": 3, "denoise": 1.0}
        sigmas = p.add("BasicScheduler", **basic)
        p.record(problem.sampler(method, model=model, sigmas=sigmas[0])[0], f"host_{name}")
    server.run(p)
    torch.testing.assert_close(value(server, "ours"), value(server, "ours_shifted"))
    change = value(server, "host_plain") - value(server, "host_shifted")
    assert float(change.abs().max()) > 1e-2


@every
def test_guidance(server, method):
    """cfg 1 is the positive text alone, with or without a negative; 2 is something else."""
    problem = tiny(guided=False)
    p = problem.prompt
    other = p.test("Conditioning", width=64, pooled=32, seed=2)[0]
    p.record(problem.sampler(method, cfg=1.0)[0], "alone")
    p.record(problem.sampler(method, cfg=7.0)[0], "no_negative")
    p.record(problem.sampler(method, cfg=1.0, negative=other)[0], "one")
    p.record(problem.sampler(method, cfg=2.0, negative=other)[0], "two")
    server.run(p)
    alone = value(server, "alone")
    assert torch.equal(alone, value(server, "no_negative"))
    torch.testing.assert_close(alone, value(server, "one"), rtol=1e-4, atol=1e-4)
    assert float((alone - value(server, "two")).abs().max()) > 1e-2


@every
@pytest.mark.parametrize("autoencoder", ["TAESD", "Wan"])
def test_wan_in_tiles(server, wan_file, method, autoencoder):
    """Tiles keep the time axis, through decoder, encoder and model."""
    problem = wan(wan_file, autoencoder, "wide.png")
    p = problem.prompt
    for name, size in (("whole", 0), ("tiles", 64)):
        run = problem.sampler(method, tile_size=size, steps=2)
        p.record(run[0], f"wan_{name}")
        p.record(run[1], f"wan_{name}_image")
    server.run(p)
    whole, tiles = value(server, "wan_whole"), value(server, "wan_tiles")
    assert tiles.shape == (1, 16, 1, 8, 12)
    assert value(server, "wan_tiles_image").shape == (1, 64, 96, 3)
    assert bool(tiles.isfinite().all())
    assert float((tiles - whole).abs().mean()) > 1e-4
