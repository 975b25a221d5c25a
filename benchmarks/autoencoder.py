"""The small autoencoder of SD3's latents: what it keeps of photographs, and how well it guides.

``python -m comfyui_flowdps.benchmarks.autoencoder [--other FOLDER] [--images 8] [--side 128]
[--steps 48]``.
``--other`` is a folder with ``taesd3_encoder.safetensors`` and ``taesd3_decoder.safetensors``
(TAESD3 by madebyollin): another small autoencoder of the same latents, to compare with. Each then
takes the place of the large decoder that the other one guides: the gradient through one of them,
the picture by the other. Memory and operations of its gradient are the columns ``tiny`` of
``benchmarks/memory.py`` and ``benchmarks/work.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..operators import Measurement
from ..priors.base import BasePrior
from ..priors.sd3_file import SMALL_AUTOENCODER, Checkpoint, load_autoencoder
from ..samplers.classical import latent_fit
from ..samplers.data_loss import DataLoss
from .command import FIT_PULL, FIT_STEP, PHOTOS, measure, pictures
from .results import interval, mean, psnrs
from .tasks import TASKS as ALL

OWN, OTHER = "ours", "other"
TASKS = ("average x4", "Gaussian blur, sigma 3", "motion blur, 17", "half of the pixels")


class Small(BasePrior):
    """A TAESD autoencoder of SD3's latents as the part of a prior that latent fits need."""

    def __init__(self, module: Any):
        super().__init__()
        self.module = module.eval().float().requires_grad_(False)
        self.latent_channels, self.stride = module.config["latent_channels"], 8
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """Not used: there is no flow."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Images of latents."""
        return self.module.decode(z, return_dict=False)[0]

    def moments(self, x: Tensor) -> tuple[Tensor, None]:
        """Latents of images."""
        return self.module.encode(x, return_dict=False)[0], None


def own() -> Small:
    """The autoencoder that comes along."""
    found = load_autoencoder(Checkpoint(SMALL_AUTOENCODER))
    assert found is not None
    return Small(found.module)


def other(folder: Path) -> Small:
    """The autoencoder in TAESD3's two files."""
    from diffusers import AutoencoderTiny

    state = {}
    for side in ("encoder", "decoder"):
        for key, value in Checkpoint(folder / f"taesd3_{side}.safetensors").items():
            index, _, rest = key.partition(".")
            # Layer 0 of the original decoder is its clamp, which diffusers does not count.
            state[f"{side}.layers.{int(index) - (side == 'decoder')}.{rest}"] = value.float()
    module = AutoencoderTiny(latent_channels=16)
    module.load_state_dict(state)
    return Small(module)


@torch.no_grad()
def round_trips(models: dict[str, Small], x: Tensor) -> None:
    """Print the PSNR of every encoder with every decoder, and the distance of the latents."""
    latents = {name: torch.cat([m.encode(i) for i in x.split(1)]) for name, m in models.items()}
    print("| encoder | decoder | PSNR, dB | worst |\n|---|---|---|---|")
    for first, second in product(models, repeat=2):
        images = torch.cat([models[second].decode(z) for z in latents[first].split(1)])
        found = psnrs(images, x)
        print(f"| {first} | {second} | {mean(found):.2f} | {min(found):.2f} |", flush=True)
    if OTHER in models:
        print(
            f"\nlatents: {distance(latents[OWN], latents[OTHER]):.1%} apart (rms of the difference"
        )
        print("over the standard deviation, mean of the channels)")


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of a − b (N, C, h, w) over b's standard deviation, mean of the channels."""
    error = (a - b).square().mean((0, 2, 3)).sqrt()
    return float((error / b.std((0, 2, 3))).mean())


def guidance(models: dict[str, Small], x: Tensor, tasks: Sequence[str], steps: int) -> None:
    """Print how alike the gradients are, and the PSNR of latents fitted by one decoder and decoded
    by another."""
    print(
        "| task | cosine of the gradients | picture by | guided by it | by the other | lost, dB |"
    )
    print("|---|---|---|---|---|---|")
    for task in tasks:
        measurement = measure(x, task, 0.03, 0)
        fitted = {name: fit(model, measurement, steps) for name, model in models.items()}
        for k, (name, model) in enumerate(models.items()):
            guide = next(each for each in models if each != name)
            scores = {}
            for by in (name, guide):
                with torch.no_grad():
                    images = torch.cat([model.decode(z) for z in fitted[by].split(1)])
                scores[by] = psnrs(images, x)
            pairs = zip(scores[name], scores[guide], strict=True)
            centre, half = interval([a - b for a, b in pairs])
            alike = "" if k else f"{cosine(models, measurement):.3f}"
            means = (mean(scores[by]) for by in (name, guide))
            print(
                f"| {'' if k else task} | {alike} | {name} |"
                f" {' | '.join(f'{m:.2f}' for m in means)} | {centre:.2f} ± {half:.2f} |",
                flush=True,
            )


def fit(model: Small, measurement: Measurement, steps: int) -> Tensor:
    """Latents fitted to a measurement by the gradient through ``model``'s decoder."""
    kept: list[Tensor] = []

    class Keeping(Small):
        def decode(self, z: Tensor) -> Tensor:
            kept[:] = [z.detach()]
            return super().decode(z)

    latent_fit(Keeping(model.module), measurement, steps, FIT_STEP, FIT_PULL)
    return kept[0]


def cosine(models: dict[str, Small], measurement: Measurement) -> float:
    """Mean cosine between the two gradients of the misfit, at the latents that a fit starts from,
    with some noise."""
    first, second = models.values()
    with torch.no_grad():
        y = measurement.y
        operator = measurement.linear
        z = second.encode(y if operator.in_shape == operator.out_shape else operator.pinv(y))
    z = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    one, two = (
        DataLoss(model, measurement, "squared").gradient(z)[1].flatten(1)
        for model in (first, second)
    )
    return float(torch.cosine_similarity(one, two).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, help="folder of TAESD3's two files")
    parser.add_argument("--images", type=int, default=8, help="of the fits; round trips take all")
    parser.add_argument("--side", type=int, default=128, help="of the fits")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--tasks", nargs="+", choices=list(ALL), default=TASKS)
    args = parser.parse_args()
    models = {OWN: own()}
    if args.other:
        models[OTHER] = other(args.other)
    x = pictures(f"{PHOTOS}/test")
    round_trips(models, x)
    if args.other:
        edge = (x.shape[-1] - args.side) // 2
        part = x[: args.images, :, edge : edge + args.side, edge : edge + args.side]
        print()
        guidance(models, part.contiguous(), args.tasks, args.steps)


if __name__ == "__main__":
    main()
