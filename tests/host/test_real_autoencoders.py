"""The tiny autoencoders of SD3 and Flux as Load VAE loads them, where their files are at hand.

``FLOWDPS_TEST_WEIGHTS`` names a folder with taesd3_encoder, taesd3_decoder, taef1_encoder and
taef1_decoder (https://github.com/madebyollin/taesd); without it, these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .graphs import Problem, measured, recorded, tiny, value
from .test_families import family

WEIGHTS = os.environ.get("FLOWDPS_TEST_WEIGHTS")
pytestmark = pytest.mark.skipif(not WEIGHTS, reason="FLOWDPS_TEST_WEIGHTS is not set")
NAMES = ("taesd3", "taef1")


@pytest.fixture(scope="module", autouse=True)
def files(server):
    """The weights, where the host looks for them."""
    folder = server.base / "models" / "vae_approx"
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        for side in ("encoder", "decoder"):
            file = f"{name}_{side}.safetensors"
            if not (folder / file).exists():
                (folder / file).symlink_to(Path(str(WEIGHTS)).resolve() / file)


def problem_of(name: str) -> Problem:
    """A random model of the family, and its own tiny autoencoder."""
    problem = tiny(guided=False) if name == "taesd3" else family("Flux")
    problem.vae = problem.prompt.add("VAELoader", vae_name=name)[0]
    problem.measurement = measured(problem.prompt, "small.png", vae=problem.vae)
    return problem


@pytest.mark.parametrize("name", NAMES)
def test_refine_agrees_with_the_photo(server, name):
    """The finish keeps the measurement even though the model's flow is random."""
    problem = problem_of(name)
    node = problem.sampler("Refine", preset="fast", steps=2, denoise=0.1)
    problem.prompt.record(node[1], f"refine_{name}")
    residual = problem.prompt.record(node[2], "residual")
    outputs = server.run(problem.prompt)
    picture = value(server, f"refine_{name}")
    assert picture.shape == (1, 64, 64, 3)
    assert bool(picture.isfinite().all())
    ratio = float(outputs[residual.id]["text"][0])
    print(f"{name}: residual {ratio:.2f}")
    assert ratio < 2


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_through_the_decoder_is_that_of_a_plain_copy(server, name):
    problem = problem_of(name)
    p = problem.prompt
    latent = p.add("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    p.test(
        "Gradient",
        model=problem.model,
        vae=problem.vae,
        positive=problem.positive,
        negative=problem.positive,
        cfg=1.0,
        measurement=problem.measurement[0],
        latent=latent[0],
        through="decoder",
        emulate="",
        mode="",
        protect=True,
        name=f"gradient_{name}",
    )
    server.run(p)
    found = recorded(server, f"gradient_{name}")
    got, want = found["gradient"], found["reference"]
    apart = float((got - want).norm() / want.norm())
    print(f"{name}: {apart:.1e} of the plain copy's")
    assert float(want.norm()) > 1e-3
    assert apart < 1e-4
