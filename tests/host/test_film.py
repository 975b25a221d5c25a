"""Restore Film inside ComfyUI: frames, the host's own video nodes, and video models in windows."""

from __future__ import annotations

import logging
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves
from comfyui_flowdps.restoration import images
from comfyui_flowdps.restoration.video import Source

from .comfyui import Failed
from .graphs import DEMO, Prompt, read_log, value

GIVEN = {
    "wrong": "grainy",
    "over_time": "nothing",
    "flicker": False,
    "effort": "fast",
    "seed": 3,
    "invent": 0.0,
}


def film(count, side=64, noise=0.1, speed=0):
    """Frames of a shot of a drawn scene."""
    scene, g = dead_leaves(160, 1), torch.Generator().manual_seed(0)
    frames = [scene[..., :side, speed * k : speed * k + side] for k in range(count)]
    return [(x + noise * torch.randn(x.shape, generator=g)).clamp(-1, 1) for x in frames]


def batch(server, p, frames):
    """The frames as one IMAGE."""
    link = None
    for k, x in enumerate(frames):
        images.save_png(x, server.base / "input" / f"frame{len(frames)}_{k}.png")
        one = p.add("LoadImage", image=f"frame{len(frames)}_{k}.png")[0]
        link = one if link is None else p.add("ImageBatch", image1=link, image2=one)[0]
    return link


def prior(p):
    loaded = p.ours("LoadFlowPrior", checkpoint=DEMO, shift=4.0)
    return loaded[0], loaded[2]


def wan(p, file, autoencoder):
    model = p.add("UNETLoader", unet_name=file, weight_dtype="default")[0]
    return model, p.test("LoadWanVAE")[0] if autoencoder == "Wan" else prior(p)[1]


def steps(x):
    return float((x[1:] - x[:-1]).square().mean())


def test_frames_of_a_still_shot_flicker_less_than_restored_one_by_one(server):
    p = Prompt()
    given = batch(server, p, film(5))
    model, vae = prior(p)
    run = p.ours("RestoreFilm", image=given, model=model, vae=vae, window=3, **GIVEN)
    alone = {k: v for k, v in GIVEN.items() if k not in ("over_time", "flicker")}
    photo = {**alone, "strength": "as found", "enlarge": 0}
    one = p.ours("RestorePhoto", image=given, model=model, vae=vae, **photo)
    p.record(run[0], "film")
    p.record(one[0], "film_alone")
    report = server.run(p)[run.id]["text"][0]
    got, other = value(server, "film"), value(server, "film_alone")
    assert got.shape == other.shape == (5, 64, 64, 3)
    assert steps(got) < 0.3 * steps(other)
    assert report.startswith("shot 1: Its grain is")
    assert report.endswith("5 frames became 5.")


def test_the_hosts_video_nodes_around_it(server):
    """Load Video → Get Video Components → Restore Film → Create Video → Save Video."""
    av = pytest.importorskip("av")
    path = server.base / "input" / "fields.mp4"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for k, x in enumerate(film(4)):
            frame = av.VideoFrame.from_ndarray(np.array(images.to_pil(x)), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    p = Prompt()
    parts = p.add("GetVideoComponents", video=p.add("LoadVideo", file="fields.mp4")[0])
    model, vae = prior(p)
    given = {**GIVEN, "over_time": "fields, top first"}
    run = p.ours("RestoreFilm", image=parts[0], model=model, vae=vae, fps=parts[2], **given)
    made = p.add("CreateVideo", images=run[0], fps=run[1])
    saved = p.add(
        "SaveVideo", video=made[0], filename_prefix="restored", format="mp4", codec="h264"
    )
    outputs = server.run(p)
    (found,) = outputs[saved.id]["images"]
    source = Source.of(server.base / "output" / found["subfolder"] / found["filename"])
    assert source.rate == 50
    frames = list(source.frames())
    assert len(frames) == 8
    assert frames[0].shape == (1, 3, 64, 64)


@pytest.mark.parametrize("autoencoder", ["TAESD", "Wan"])
def test_a_video_model_restores_the_frames_of_a_window_together(server, wan_file, autoencoder):
    """Windows of 5 frames with an overlap of 1: what the model is given is no longer than one."""
    p = Prompt()
    model, vae = wan(p, wan_file, autoencoder)
    frames = film(9, noise=0.05)
    run = p.ours(
        "RestoreFilm",
        image=batch(server, p, frames),
        model=model,
        vae=vae,
        **{**GIVEN, "window": 5, "prompt": p.ours("EmptyConditioning", model=model, tokens=2)[0]},
    )
    p.record(run[0], f"wan_film_{autoencoder}")
    server.run(p)
    got = value(server, f"wan_film_{autoencoder}")
    assert got.shape == (9, 64, 64, 3)
    assert bool(got.isfinite().all())
    lengths = re.findall(r"a film of (\d+) frames at once", read_log(server))
    assert lengths
    assert max(map(int, lengths)) == 5
    # A seam would be a larger step between windows than within them.
    apart = (got[1:] - got[:-1]).square().mean((1, 2, 3))
    logging.info("steps from frame to frame: %s", apart.tolist())
    assert float(apart.max()) < 20 * float(apart.median()) + 1e-4


def test_a_video_latent_in_a_sampler(server, wan_file):
    """As many frames as the measurement has photos, and not another number."""
    for length, words in ((5, ""), (9, "video of 9 frames, and the measurement belongs to 5")):
        p = Prompt()
        model, vae = wan(p, wan_file, "Wan")
        measurement = p.ours(
            "EncodeMeasurement",
            image=batch(server, p, film(5)),
            operator=p.ours("Identity")[0],
            mode="observed",
            noise=0.1,
            seed=0,
            vae=vae,
        )
        latent = p.add("EmptyHunyuanLatentVideo", width=64, height=64, length=length, batch_size=1)
        run = p.ours(
            "RefineSampler",
            model=model,
            vae=vae,
            positive=p.ours("EmptyConditioning", model=model, tokens=2)[0],
            measurement=measurement[0],
            latent=latent[0],
            seed=1,
            steps=2,
            cfg=1.0,
            preset="fast",
            step_scale=1.0,
            denoise=0.3,
        )
        p.record(run[0], "wan_video")
        p.record(run[1], "wan_video_image")
        if words:
            with pytest.raises(Failed, match=words):
                server.run(p)
            continue
        server.run(p)
        assert value(server, "wan_video").shape == (1, 16, 2, 8, 8)
        assert value(server, "wan_video_image").shape == (5, 64, 64, 3)
