"""Every prior has all that ``FlowPrior`` names, with the same parameters."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest
import torch
from comfyui_flowdps.priors.base import BasePrior, FlowPrior, draw_latents
from comfyui_flowdps.priors.diffusers import DiffusersPrior, load_prior
from comfyui_flowdps.priors.tiling import Tile, TiledPrior

METHODS = ("denoise", "decode", "encode", "moments", "within", "guidance", "save_memory")

# ComfyUI's own prior, imported with a stand-in for the host.
IN_HOST = """
import inspect, json
from comfyui_flowdps.tests.nodes import standin
standin.install()
from comfyui_flowdps.priors.comfy import ComfyPrior

methods = [list(inspect.signature(getattr(ComfyPrior, name)).parameters) for name in METHODS]
made = inspect.getsource(ComfyPrior.__init__)
print(json.dumps([methods, [name for name in DATA if f"self.{name}" not in made]]))
"""
DATA = (
    "latent_channels",
    "stride",
    "device",
    "dtype",
    "largest",
    "usual",
    "velocity_errors",
    "error_spectrum",
    "movable",
)


class Small(BasePrior):
    """Only what a subclass must give."""

    latent_channels, stride = 3, 1
    device, dtype = torch.device("cpu"), torch.float32

    def denoise(self, z, sigma):
        return z

    def decode(self, z):
        return z

    def moments(self, x):
        return x, torch.full_like(x, 0.5)


def parameters(kind: type, name: str) -> list[str]:
    """Names of the parameters of a method."""
    return list(inspect.signature(getattr(kind, name)).parameters)


WANTED = [parameters(FlowPrior, name) for name in METHODS]


@pytest.mark.parametrize("kind", [DiffusersPrior, TiledPrior, Small])
def test_methods_take_the_same(kind):
    assert [parameters(kind, name) for name in METHODS] == WANTED


def test_priors_have_all_members():
    demo = load_prior(device="cpu")
    for prior in (demo, TiledPrior(demo, 8), Small(), TiledPrior(Small(), 8)):
        assert isinstance(prior, FlowPrior)
        assert prior.largest >= prior.usual > 0
    assert not isinstance(BasePrior(), FlowPrior), "it lacks the networks"
    assert (demo.usual, TiledPrior(demo, 8).usual) == (192, 192)
    assert len(demo.velocity_errors) == 16
    assert TiledPrior(demo, 8).velocity_errors == demo.velocity_errors
    assert Small().velocity_errors == ()


def test_the_defaults_of_a_simple_prior():
    prior, x = Small(), torch.zeros(2, 3, 4, 4)
    gens = [torch.Generator().manual_seed(k) for k in range(2)]
    again = [torch.Generator().manual_seed(k) for k in range(2)]
    noise = torch.stack([torch.randn(3, 4, 4, generator=g) for g in again])
    assert torch.equal(prior.encode(x), x)
    assert torch.equal(prior.encode(x, gens), 0.5 * noise)
    assert torch.equal(draw_latents(x, None, gens), x)
    with pytest.raises(ValueError, match="2 generators for 1 samples"):
        prior.encode(x[:1], gens)
    with prior.within(Tile(0, 0, 2, 2, (4, 4))):
        assert (prior.memory_mode, prior.save_memory()) == ("full", False)


def test_the_hosts_prior_has_them_too():
    code = f"METHODS, DATA = {METHODS}, {DATA}\n{IN_HOST}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [WANTED, []]
