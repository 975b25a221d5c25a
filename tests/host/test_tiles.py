"""Pictures larger than the model takes, in tiles, inside ComfyUI."""

from __future__ import annotations

import json

import pytest
import torch
from comfyui_flowdps.operators import Measurement, recipe_for_task
from comfyui_flowdps.operators.randomness import generators
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.priors.tiling import TiledPrior
from comfyui_flowdps.samplers import METHODS, preset, published_sigmas

from .comfyui import Failed
from .graphs import Problem, comparable, demo, recorded, tiny, value
from .test_citizens import decodings, sabotaged
from .test_sampling import NAMES, advanced

WHOLE = (14, 20)
"""large.png in latent cells."""
every = pytest.mark.parametrize("method", NAMES)


def controlled(problem: Problem, hint) -> None:
    """Add a control network with the picture ``hint`` to both texts, and one before it."""
    for strength in (0.6, 0.9):
        given = {
            "positive": problem.positive,
            "negative": problem.negative,
            "vae": problem.vae,
            "image": hint,
            "strength": strength,
            "start_percent": 0.0,
            "end_percent": 1.0,
        }
        p = problem.prompt
        net = p.add("ControlNetLoader", control_net_name="tiny_control.safetensors")
        node = p.add("ControlNetApplySD3", control_net=net[0], **given)
        problem.positive, problem.negative = node[0], node[1]


@pytest.fixture
def spatial():
    """Adds what is spatial to a problem: controls, a noise mask, a masked and a limited text.

    ``box`` = (top, left, height, width) in cells cuts all of it, by the host's own nodes.
    """

    def add(problem: Problem, box=None, leave=()):
        p = problem.prompt
        top, left, height, width = box or (0, 0, *WHOLE)
        place = {"x": 8 * left, "y": 8 * top, "width": 8 * width, "height": 8 * height}

        def scaled(name, wide=8 * WHOLE[1], tall=8 * WHOLE[0]):
            size = {"width": wide, "height": tall, "crop": "disabled"}
            image = p.add("LoadImage", image=name)[0]
            return p.add("ImageScale", image=image, upscale_method="nearest-exact", **size)[0]

        def mask(channel):
            found = p.add("ImageToMask", image=scaled("large.png"), channel=channel)[0]
            return p.add("CropMask", mask=found, **place)[0] if box else found

        # Twice the size, so that the host has to fit it.
        hint = scaled("large.png", 16 * WHOLE[1], 16 * WHOLE[0])
        if box:
            fitted = {"width": 8 * WHOLE[1], "height": 8 * WHOLE[0], "crop": "center"}
            hint = p.add("ImageScale", image=hint, upscale_method="nearest-exact", **fitted)[0]
            hint = p.add("ImageCrop", image=hint, **place)[0]
        if "mask" not in leave:
            given = {"strength": 0.8, "set_cond_area": "default", "mask": mask("red")}
            masked = p.add("ConditioningSetMask", conditioning=problem.positive, **given)
            other = p.test("Conditioning", width=64, pooled=32, seed=3)
            given |= {"strength": 1.0, "mask": mask("green")}
            second = p.add("ConditioningSetMask", conditioning=other[0], **given)
            problem.positive = p.add(
                "ConditioningCombine", conditioning_1=masked[0], conditioning_2=second[0]
            )[0]
        if "area" not in leave:
            area = (2, 4, 8, 11)
            ends = (min(area[0] + area[2], top + height), min(area[1] + area[3], left + width))
            begin = (max(area[0], top), max(area[1], left))
            sides = {
                "height": (ends[0] - begin[0]) / height,
                "width": (ends[1] - begin[1]) / width,
                "y": (begin[0] - top) / height,
                "x": (begin[1] - left) / width,
            }
            limited = p.test("Conditioning", width=64, pooled=32, seed=4)
            kind = "ConditioningSetAreaPercentage"
            limited = p.add(kind, conditioning=limited[0], strength=0.7, **sides)
            problem.positive = p.add(
                "ConditioningCombine", conditioning_1=problem.positive, conditioning_2=limited[0]
            )[0]
        if "control" not in leave:
            controlled(problem, hint)
        latent = p.add("VAEEncode", pixels=scaled("large.png"), vae=problem.vae)
        if box:
            latent = p.add("LatentCrop", samples=latent[0], **place)
        if "noise" not in leave:
            latent = p.add("SetLatentNoiseMask", samples=latent[0], mask=mask("blue"))
        return latent[0]

    return add


@pytest.mark.parametrize("box", [(0, 0, 8, 8), (5, 11, 8, 8), (3, 6, 8, 9)])
def test_a_tile_is_a_picture_of_its_own(server, spatial, box):
    """What a tile's pass gets is what the host's own nodes cut out for it: noise mask, pictures of
    control networks, masks and areas of texts; and each of them matters."""
    names = {}
    for name, alone, leave in (
        ("within", False, ()),
        ("alone", True, ()),
        *((f"no_{part}", False, (part,)) for part in ("mask", "area", "control", "noise")),
    ):
        problem = tiny("large.png")
        latent = spatial(problem, box if alone else None, leave)
        names[name] = f"tile_{name}"
        problem.prompt.test(
            "TilePass",
            model=problem.model,
            vae=problem.vae,
            positive=problem.positive,
            negative=problem.negative,
            latent=latent,
            tile=json.dumps(box),
            whole=json.dumps(WHOLE),
            alone=alone,
            name=names[name],
        )
        server.run(problem.prompt)
    found = {name: recorded(server, file) for name, file in names.items()}
    for part, got in found["within"].items():
        assert got.shape == (1, 16, *box[2:]), part
        torch.testing.assert_close(got, found["alone"][part], rtol=1e-4, atol=1e-4)
    for part in ("no_mask", "no_area", "no_control", "no_noise"):
        change = found[part]["denoised"] - found["within"]["denoised"]
        assert float(change.abs().max()) > 1e-3, part
    change = found["no_noise"]["decoded"] - found["within"]["decoded"]
    assert float(change.abs().max()) > 1e-3, "the noise mask does not reach the decoder"


@every
def test_everything_at_once_and_no_traces(server, spatial, method):
    """Guidance, controls, masks and areas on tiles; and a run in other tiles is the same before
    and after. The model has positions for 128 pixels, so that both of these are in tiles of 128.
    """
    found = {}
    for name, size in (("before", 0), ("tiles", 64), ("after", 128)):
        problem = tiny("large.png")
        latent = spatial(problem)
        run = problem.sampler(method, latent=latent, steps=2, tile_size=size)
        problem.prompt.record(run[0], f"tiles_{name}")
        problem.prompt.record(run[1], f"tiles_{name}_image")
        assert run.id in server.ran(problem.prompt), "taken from the cache"
        found[name] = value(server, f"tiles_{name}")
        assert value(server, f"tiles_{name}_image").shape == (1, 112, 160, 3)
    assert bool(found["tiles"].isfinite().all())
    assert float((found["tiles"] - found["before"]).abs().mean()) > 1e-3
    assert torch.equal(found["after"], found["before"])


@every
def test_a_noise_mask_keeps_what_it_leaves_out(server, method):
    """The mask frees the left six columns, across a border of tiles."""
    problem = demo("large.png")
    p = problem.prompt
    image = p.add("LoadImage", image="large.png")
    given = p.add("VAEEncode", pixels=image[0], vae=problem.vae)
    mask = p.add(
        "MaskComposite",
        destination=p.add("SolidMask", value=0.0, width=160, height=112)[0],
        source=p.add("SolidMask", value=1.0, width=48, height=112)[0],
        x=0,
        y=0,
        operation="add",
    )
    masked = p.add("SetLatentNoiseMask", samples=given[0], mask=mask[0])
    p.record(problem.sampler(method, latent=masked[0], tile_size=64)[0], "tiles_masked")
    p.record(given[0], "tiles_given")
    server.run(p)
    got, kept = value(server, "tiles_masked"), value(server, "tiles_given")
    torch.testing.assert_close(got[..., 6:], kept[..., 6:], rtol=1e-4, atol=1e-4)
    assert float((got[..., :6] - kept[..., :6]).abs().mean()) > 0.05


@every
def test_equals_the_standalone_library(server, method):
    """Two published steps of the demo prior in tiles of 64 pixels, as a SAMPLER."""
    problem, name, seed = demo("large.png"), f"tiles_standalone_{method}", 5
    p = problem.prompt
    watched = p.test("Watch", sampler=problem.object(method, tile_size=64)[0], name=name)
    p.record(advanced(problem, watched, seed=seed, steps=2)[0], f"{name}_answer")
    p.record(problem.measurement[0], f"{name}_y")
    server.run(p)
    there, y = recorded(server, name), value(server, f"{name}_y")
    operator = recipe_for_task("sr_bicubic", 4, seed=0).bind((3, 112, 160))
    here = []
    METHODS[method.lower()].function(
        TiledPrior(load_prior(device="cpu", dtype="float32"), 8),
        there["start"],
        published_sigmas(2).float().double(),
        Measurement(y, operator, 0.03),
        preset(method.lower(), comparable(method)),
        generators(seed, "sampling", range(1)),
        lambda step: here.append(step.denoised),
    )
    assert len(here) == 2
    for i, want in enumerate(here):
        assert float((there[f"denoised{i}"] - want).norm() / want.norm()) < 1e-3, f"step {i}"


def test_larger_than_the_models_positions(server):
    """tiny.safetensors knows 16 cells a side: automatic tiles serve, larger ones are refused."""
    problem = tiny("large.png")
    p = problem.prompt
    p.record(problem.sampler("FlowChef", steps=1)[1], "tiles_auto")
    p.record(problem.sampler("FlowChef", steps=1, tile_size=128)[1], "tiles_128")
    server.run(p)
    assert torch.equal(value(server, "tiles_auto"), value(server, "tiles_128"))
    for links in (
        lambda problem: problem.sampler("FlowChef", tile_size=192)[0],
        lambda problem: advanced(problem, problem.object("FlowChef", tile_size=192))[0],
    ):
        problem = tiny("large.png")
        problem.prompt.record(links(problem), "never")
        with pytest.raises(Failed, match=r"the tile is 192 pixels a side; expected 0 .* to 128"):
            server.run(problem.prompt)


@every
def test_cancel_stops_within_one_tile(server, method):
    problem = tiny("large.png")
    vae = sabotaged(problem, 3, "interrupt")
    problem.prompt.record(problem.sampler(method, vae=vae, tile_size=64)[0], "never")
    with pytest.raises(Failed, match="interrupted"):
        server.run(problem.prompt)
    assert decodings(server) == 3


def test_a_step_shows_how_far_it_is(server):
    """The bar moves within the only step, and pictures of what is done come with it."""
    problem = demo("large.png")
    problem.prompt.record(problem.sampler(tile_size=64, steps=1, inner_steps=8)[0], "watched")
    server.wait_until_idle()
    with server.listen("within") as socket:
        prompt_id = server.queue(problem.prompt, "within")
        parts, pictures = [], 0
        for message in socket.until_done(prompt_id):
            if isinstance(message, bytes):
                pictures += 1
            elif message["type"] == "progress":
                parts.append(message["data"]["value"] / message["data"]["max"])
    assert server.wait(prompt_id)["status"]["status_str"] == "success"
    inside = [part for part in parts if 0 < part < 1]
    assert len(set(inside)) > 1, parts
    assert inside == sorted(inside)
    assert pictures > len(parts) - len(inside)


@every
def test_the_memory_that_is_asked_for_is_that_of_a_tile(server, method):
    """Of a picture of a tile's size, and a dozen tensors of the whole image's."""
    asked = {}
    for name, picture, size in (
        ("tile", "small.png", 0),
        ("tiles", "large.png", 64),
        ("whole", "large.png", 0),
    ):
        problem = demo(picture)
        p = problem.prompt
        watched = p.test(
            "Watch", sampler=problem.object(method, tile_size=size)[0], name=f"asked_{name}"
        )
        p.record(advanced(problem, watched, steps=1)[0], "asked_answer")
        server.run(p)
        asked[name] = float(recorded(server, f"asked_{name}")["asked"])
    image = 4 * 3 * 160 * 112
    assert asked["tile"] < asked["tiles"] < asked["tile"] + 15 * image
    assert asked["tiles"] < 0.7 * asked["whole"]
