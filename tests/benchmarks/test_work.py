"""What refine costs with SD3 at 1024 x 1024, counted: operations, and bytes at the peak."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks import memory, work
from comfyui_flowdps.priors.base import BasePrior
from comfyui_flowdps.samplers import METHODS


@pytest.fixture(scope="module")
def unit():
    return work.units(1024, ("no gradient", "full"))


@pytest.fixture(scope="module")
def published(unit):
    return work.total(work.counted("flowdps", "published"), 2.0, unit, "full")


@pytest.mark.parametrize("preset", ["tuned", "fast"])
@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_refine_takes_at_most_a_third_of_the_operations_of_published_flowdps(
    unit, published, preset, cfg
):
    """Without guidance, as by default, and with it."""
    calls = work.counted("refine", preset)
    assert not any(name.endswith("gradient") for name in calls)
    assert work.total(calls, cfg, unit, "full") <= published / 3


def test_guidance_doubles_the_transformers_operations(unit):
    once, both = (unit[work.network("transformer", cfg), "no gradient"] for cfg in (1.0, 2.0))
    assert both == pytest.approx(2 * once, rel=0.01)


def test_every_method_is_counted_with_its_own_levels_and_guidance():
    """28 of FlowDPS; 3 of refine, by views, pairs and signs."""
    settings = METHODS["refine"].preset()
    assert work.counted("flowdps", "published")["transformer"] == METHODS["flowdps"].steps
    passes = METHODS["refine"].steps * settings.views * settings.pairs * 2
    assert work.counted("refine", "tuned")["transformer"] == passes


def test_a_run_of_refine_peaks_at_a_plain_decoding():
    run, decoding = (
        memory.count(f, 1024, "no gradient", torch.float16)
        for f in (memory.without_gradient, memory.decoding)
    )
    assert run == decoding


@pytest.mark.parametrize("side", ["decoder", "encoder"])
def test_in_strips_a_pass_without_gradient_takes_at_most_1300_megabytes(side):
    """With strips eight times as large as usual, which are counted faster and take more."""

    def in_strips(size, mode, dtype):
        return memory.in_strips(side, size, dtype, 8 * memory.STRIP_BYTES)

    assert memory.count(in_strips, 1024, "strips", torch.float16) <= 1.3e9


def test_a_run_of_refine_keeps_only_images_besides_its_passes():
    """A whole run, counted for real: at most 60 images more than its largest pass."""
    from comfyui_flowdps.benchmarks.counting import Counter
    from comfyui_flowdps.operators import AveragePool, Measurement
    from comfyui_flowdps.samplers import sample

    size = 64

    class Heavy(BasePrior):
        """A model whose autoencoder takes 500 images for itself."""

        latent_channels, stride, device, dtype = 4, 8, torch.device("cpu"), torch.float32

        def denoise(self, z, sigma):
            return (1 - sigma) * z

        def decode(self, z):
            self.work()
            return z[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)

        def moments(self, x):
            self.work()
            z = torch.nn.functional.avg_pool2d(x, 8)
            return torch.cat([z, z[:, :1]], 1), None

        def work(self):
            torch.ones(500, 3, size, size)

    operator = AveragePool(4).bind((3, size, size))
    row = METHODS["refine"]
    with Counter() as counter:
        sample(
            "refine",
            Heavy(),
            Measurement(torch.zeros(1, 3, size // 4, size // 4), operator, 0.03),
            sigmas=row.levels(row.preset(), row.steps),
            settings=row.preset(),
            generators=[torch.Generator().manual_seed(0)],
        )
    image = 3 * size * size * 4
    assert 500 * image <= counter.peak <= 560 * image
