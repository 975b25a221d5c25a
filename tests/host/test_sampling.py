"""The samplers inside ComfyUI: alone, as SAMPLER objects, and against the standalone library."""

from __future__ import annotations

import re

import pytest
import torch
from comfyui_flowdps.operators import Measurement, recipe_for_task
from comfyui_flowdps.operators.randomness import generators
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.samplers import METHODS, Sample, preset, published_sigmas

from .graphs import demo, read_log, recorded, tiny, told, value

NAMES = tuple(row.title for row in METHODS.values())
"""The titles of all methods, which are in the nodes' ids."""
every = pytest.mark.parametrize("method", NAMES)
STEADY = {"FLAIR": "tuned", "Refine": "fast"}
"""Presets for comparisons up to rounding, where it is not published: FLAIR's published steps
overshoot at SR x4, and rounding grows; Refine is not of a paper."""
SPREAD = {"Refine": 1e-4}
"""How far samples of one photo are apart at least, where it is not 0.005: Refine's mean over noises
and its low noise levels leave little."""


def advanced(problem, sampler, seed=1, steps=3, guider="BasicGuider", cfg=2.0):
    """The host's own sampling node around one of our SAMPLERs."""
    p = problem.prompt
    if guider == "BasicGuider":
        guide = p.add(guider, model=problem.model, conditioning=problem.positive)
    else:
        texts = {"positive": problem.positive, "negative": problem.negative}
        guide = p.add(guider, model=problem.model, cfg=cfg, **texts)
    noise = p.add("RandomNoise", noise_seed=seed)
    sigmas = p.ours("Sigmas", steps=steps, shift=4.0)
    return p.add(
        "SamplerCustomAdvanced",
        noise=noise[0],
        guider=guide[0],
        sampler=sampler[0],
        sigmas=sigmas[0],
        latent_image=problem.measurement[2],
    )


@pytest.mark.parametrize(
    ("method", "part"),
    [("FlowDPS", 0.4), ("FlowChef", 0.6), ("PSLD", 0.9), ("FLAIR", 0.4), ("LATINO", 0.4)],
)
def test_pulls_towards_the_measurement(server, method, part):
    """Six steps leave this part of the residual that a picture without data has; PSLD is slow."""
    problem = demo()
    p = problem.prompt
    with_data = problem.sampler(method, preset="tuned", steps=6)
    without = problem.sampler(method, preset="tuned", steps=6, step_scale=0.0)
    ratios = []
    for run in (with_data, without):
        given = {"image": run[1], "measurement": problem.measurement[0], "tolerance": 1.2}
        ratios.append(p.record(p.ours("MeasurementCheck", **given)[2], "ratio"))
    p.record(with_data[1], f"image_{method}")
    outputs = server.run(p)
    guided, free = (told(outputs, ratio) for ratio in ratios)
    assert guided < part * free
    image = value(server, f"image_{method}")
    assert image.shape == (1, 64, 64, 3)
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1


@every
@pytest.mark.parametrize("guider", ["BasicGuider", "CFGGuider"])
def test_object_equals_all_in_one(server, method, guider):
    problem = tiny(guided=guider == "CFGGuider")
    alone = problem.sampler(method, sigmas=problem.prompt.ours("Sigmas", steps=3, shift=4.0)[0])
    custom = advanced(problem, problem.object(method), guider=guider)
    p = problem.prompt
    p.record(alone[0], "alone")
    p.record(custom[0], "custom")
    p.record(alone[1], "alone_image")
    decoded = p.add("VAEDecode", samples=custom[0], vae=problem.vae)
    p.record(decoded[0], "custom_image")
    server.run(p)
    assert float(value(server, "alone").std()) > 0.1
    assert torch.equal(value(server, "alone"), value(server, "custom"))
    made, decoded_ = value(server, "alone_image"), value(server, "custom_image")
    if method == "Refine":
        # Its image is final; the latents are those that decode to nearly the same.
        assert float((made - decoded_).abs().mean()) < 0.1
    else:
        assert torch.equal(made, decoded_)


@pytest.mark.parametrize("method", ["FlowDPS", "FlowChef"])
def test_one_of_a_batch_can_be_made_again(server, method):
    """The host's Latent From Batch remembers the place in the batch, and so does the noise.

    Up to rounding, which is large where a rectifier of the decoder switches: its gradient jumps.
    """
    problem = demo(batch_size=3)
    p = problem.prompt
    inputs = {"steps": 4, "seed": 2}
    whole = problem.sampler(method, latent=problem.measurement[2], **inputs)
    last = p.add("LatentFromBatch", samples=problem.measurement[2], batch_index=2, length=1)
    again = problem.sampler(method, latent=last[0], **inputs)
    p.record(whole[1], "whole")
    p.record(again[1], "again")
    server.run(p)
    whole, again = value(server, "whole"), value(server, "again")
    same, other = (float((again[0] - whole[k]).abs().mean()) for k in (2, 0))
    assert same < 0.05 * other, (same, other)


@every
def test_an_object_tells_the_log_what_is_left(server, method):
    """The ratio that Measurement Check finds in the decoded picture."""
    problem = demo()
    p = problem.prompt
    custom = advanced(problem, problem.object(method))
    decoded = p.add("VAEDecode", samples=custom[0], vae=problem.vae)
    given = {"measurement": problem.measurement[0], "tolerance": 1.2}
    ratio = p.record(p.ours("MeasurementCheck", image=decoded[0], **given)[2], "left")
    before = len(read_log(server))
    outputs = server.run(p)
    found = re.findall(rf"{method.lower()}: residual is ([\d.]+) times", read_log(server)[before:])
    assert [float(each) for each in found] == [pytest.approx(told(outputs, ratio), abs=0.02)]


@every
@pytest.mark.parametrize("task", ["sr_bicubic", "deblur_gauss"])
def test_equals_the_standalone_library(server, method, task):
    """Three steps with the demo prior through diffusers, compared step by step.

    Relative error below 1e-3 at every step: both compute in float32, but small differences grow
    from step to step. The generators of FlowDPS's renewed noise follow the run's seed.
    """
    problem = demo(task=task)
    p, name, seed = problem.prompt, f"standalone_{method}_{task}", 5
    steady = STEADY.get(method, "published")
    watched = p.test("Watch", sampler=problem.object(method, preset=steady)[0], name=name)
    advanced(problem, watched, seed=seed)
    p.record(p.add("VAEDecode", samples=[str(len(p)), 0], vae=problem.vae)[0], f"{name}_image")
    p.record(problem.measurement[0], f"{name}_y")
    server.run(p)
    there, y = recorded(server, name), value(server, f"{name}_y")

    z = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(there["start"], z)
    size = 9 if task.startswith("deblur") else 4
    operator = recipe_for_task(task, size, seed=0).bind((3, 64, 64))
    here = []
    prior = load_prior(device="cpu", dtype="float32")
    result = METHODS[method.lower()].function(
        prior,
        z,
        published_sigmas(3).float().double(),
        Measurement(y, operator, 0.03),
        preset(method.lower(), steady),
        generators(seed, "sampling", range(1)),
        lambda step: here.append(step.denoised),
    )
    answer = Sample.of(result).latents
    assert len(here) == 3
    for i, want in enumerate(here):
        assert float((there[f"denoised{i}"] - want).norm() / want.norm()) < 1e-3, f"step {i}"
    image = ((prior.decode(answer) + 1) / 2).clamp(0, 1).movedim(1, -1)
    assert float((value(server, f"{name}_image") - image).abs().mean()) < 1e-3


@pytest.mark.parametrize("method", [name for name in NAMES if name != "Refine"])
def test_without_data_it_is_the_hosts_euler(server, method):
    """At step size 0 nothing is left of the method but an Euler step; Refine starts elsewhere."""
    problem = tiny()
    p = problem.prompt
    levels = p.ours("Sigmas", steps=4, shift=4.0)[0]
    p.record(problem.sampler(method, step_scale=0.0, sigmas=levels, seed=9)[0], "zero")
    p.record(problem.sampler(method, steps=4, seed=9)[0], "guided")
    euler = p.add(
        "SamplerCustom",
        model=problem.model,
        add_noise=True,
        noise_seed=9,
        cfg=2.0,
        positive=problem.positive,
        negative=problem.negative,
        sampler=p.add("KSamplerSelect", sampler_name="euler")[0],
        sigmas=p.ours("Sigmas", steps=4, shift=4.0)[0],
        latent_image=problem.measurement[2],
    )
    p.record(euler[0], "euler")
    server.run(p)
    want = value(server, "euler")
    torch.testing.assert_close(value(server, "zero"), want, rtol=1e-4, atol=1e-4)
    assert float((value(server, "guided") - want).abs().max()) > 1e-2


def test_settings_reach_the_sampler(server):
    problem = demo()
    runs = {
        "preset": {},
        "three": {"inner_steps": 3},
        "one": {"inner_steps": 1},
        "half": {"step_scale": 0.5},
        "seed": {"seed": 2},
        "tuned": {"preset": "tuned"},
        "sigmas": {"steps": 9, "sigmas": problem.prompt.ours("Sigmas", steps=3, shift=4.0)[0]},
    }
    for name, inputs in runs.items():
        problem.prompt.record(problem.sampler(**inputs)[0], f"setting_{name}")
    server.run(problem.prompt)
    found = {name: value(server, f"setting_{name}") for name in runs}
    assert torch.equal(found["preset"], found["three"]), "published means three inner steps"
    assert torch.equal(found["preset"], found["sigmas"]), "sigmas replace steps"
    for name in ("one", "half", "seed", "tuned"):
        assert float((found["preset"] - found[name]).abs().max()) > 1e-3, name


def test_guidance_of_the_preset_replaces_cfg(server):
    """Where there is a negative; a guider without one keeps its own weight."""
    problem = tiny()
    names = {"trips": 2.0, "trips_other": 6.0, "published": 2.0, "published_other": 6.0}
    for name, cfg in names.items():
        run = problem.sampler(preset=name.split("_")[0], cfg=cfg)
        problem.prompt.record(run[0], f"guidance_{name}")
    alone = problem.sampler(preset="trips", negative=None)
    plain = advanced(problem, problem.object(preset="trips"))
    problem.prompt.record(alone[0], "guidance_alone")
    problem.prompt.record(plain[0], "guidance_plain")
    del problem.prompt[alone.id]["inputs"]["negative"]
    server.run(problem.prompt)
    found = {name: value(server, f"guidance_{name}") for name in (*names, "alone", "plain")}
    assert torch.equal(found["trips"], found["trips_other"])
    assert float((found["published"] - found["published_other"]).abs().max()) > 1e-3
    assert torch.equal(found["alone"], found["plain"])
    assert float((found["alone"] - found["trips"]).abs().max()) > 1e-3


@every
def test_samples_of_a_batch_are_independent(server, method):
    """The first of two photos is restored as it would be alone."""
    problem = demo()
    p = problem.prompt
    pair = p.add(
        "ImageBatch",
        image1=p.add("LoadImage", image="small.png")[0],
        image2=p.add("LoadImage", image="other.png")[0],
    )
    inputs = p[problem.measurement.id]["inputs"]
    both = p.ours("EncodeMeasurement", **{**inputs, "image": pair[0]})
    steady = {"preset": STEADY.get(method, "published")}
    p.record(problem.sampler(method, **steady)[0], "single")
    p.record(problem.sampler(method, measurement=both[0], **steady)[0], "pair")
    server.run(p)
    single, pair_ = value(server, "single"), value(server, "pair")
    assert pair_.shape[0] == 2
    assert float((pair_[:1] - single).norm() / single.norm()) < 1e-3
    assert float((pair_[1:] - single).norm() / single.norm()) > 0.1


@every
def test_one_photo_several_restorations(server, method):
    problem = demo(batch_size=3)
    latent = problem.measurement[2]
    problem.prompt.record(problem.sampler(method, latent=latent)[1], "several")
    server.run(problem.prompt)
    images = value(server, "several")
    assert images.shape == (3, 64, 64, 3)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float((images[a] - images[b]).abs().mean()) > SPREAD.get(method, 0.005)


@every
@pytest.mark.parametrize(
    ("picture", "size", "padded", "free"),
    [("small.png", (64, 64), (64, 64), 4), ("odd.png", (75, 53), (80, 64), 8)],
)
def test_noise_mask_keeps_what_it_leaves_out(server, method, picture, size, padded, free):
    """The mask frees so many columns of latent cells; it is of the picture's size, unpadded."""
    problem = demo(picture)
    p = problem.prompt
    image = p.add("LoadImage", image=picture)
    width, height = size
    whole = p.add(
        "ImageScale",
        image=image[0],
        upscale_method="bilinear",
        width=padded[0],
        height=padded[1],
        crop="disabled",
    )
    given = p.add("VAEEncode", pixels=whole[0], vae=problem.vae)
    mask = p.add(
        "MaskComposite",
        destination=p.add("SolidMask", value=0.0, width=width, height=height)[0],
        source=p.add("SolidMask", value=1.0, width=8 * free, height=height)[0],
        x=0,
        y=0,
        operation="add",
    )
    masked = p.add("SetLatentNoiseMask", samples=given[0], mask=mask[0])
    p.record(problem.sampler(method, latent=masked[0])[0], "masked")
    p.record(given[0], "kept")
    server.run(p)
    got, kept = value(server, "masked"), value(server, "kept")
    torch.testing.assert_close(got[..., free:], kept[..., free:], rtol=1e-4, atol=1e-4)
    assert float((got[..., :free] - kept[..., :free]).abs().mean()) > 0.05
