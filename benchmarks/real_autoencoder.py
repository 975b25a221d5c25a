"""The tiny autoencoders of SD3 and Flux in the loop, on a photo: pictures and gradients.

``python -m comfyui_flowdps.benchmarks.real_autoencoder --weights FOLDER --picture PHOTO``

FOLDER has the files ``taesd3_encoder``, ``taesd3_decoder``, ``taef1_encoder`` and ``taef1_decoder``
(https://github.com/madebyollin/taesd, MIT). There is no flow model: what is shown is that the
autoencoder serves, through diffusers' AutoencoderTiny. Two tables are printed: PSNR of the photo's
centre with ``refine`` where the model adds nothing and with the latent fit; and how far gradients
of the data loss in half precision are from those in float32, at the same latents.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..operators import BicubicDownsample, GaussianBlur, Measurement, simulate
from ..operators.randomness import generators
from ..priors.base import BasePrior
from ..restoration import metrics
from ..restoration.images import read_image
from ..samplers import METHODS, sample
from ..samplers.classical import latent_fit
from ..samplers.data_loss import DataLoss
from ..samplers.refine import classical
from ..samplers.start import first_picture
from .command import FIT_PULL, FIT_STEP, measurement_picture

NAMES = {"taesd3": "SD3", "taef1": "Flux"}
TASKS = {"SR x4": BicubicDownsample(), "Gaussian blur, sigma 3": GaussianBlur(size=19)}
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
LEVELS = (0.03, 0.005)


class AutoencoderAlone(BasePrior):
    """One of the autoencoders in a precision, with a model that only scales: no flow."""

    latent_channels, stride = 16, 8
    device = torch.device("cpu")

    def __init__(self, folder: Path, name: str, dtype: torch.dtype = torch.float32):
        from diffusers import AutoencoderTiny

        super().__init__()
        model: Any = AutoencoderTiny(latent_channels=16)
        for side in ("encoder", "decoder"):
            state = load_file(folder / f"{name}_{side}.safetensors")
            # Layer 0 of the original decoder is its clamp, which diffusers does not count.
            first = int(side == "decoder")
            parts = ((*key.split(".", 1), value) for key, value in state.items())
            layers = {f"layers.{int(k) - first}.{rest}": value for k, rest, value in parts}
            getattr(model, side).load_state_dict(layers)
            getattr(model, side).to(dtype)
        self.model, self.dtype = model.requires_grad_(False), dtype

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """The latents whose noisy version has the mean z; opposite noises cancel in their mean."""
        return z / (1 - sigma)

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] of latents, in float32."""
        self.passes.note("decoder", z)
        return self.model.decode(z.to(self.dtype)).sample.float()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Latents of images; there is no deviation."""
        self.passes.note("encoder", x)
        return self.model.encode(x.to(self.dtype)).latents.float(), None


def photo(file: Path, side: int) -> Tensor:
    """The centre of a picture, (1, 3, side, side) in [-1, 1]; ValueError where it is smaller."""
    x, _ = read_image(file)
    top, left = ((length - side) // 2 for length in x.shape[2:])
    if min(left, top) < 0:
        raise ValueError(
            f"{file} is {x.shape[3]} x {x.shape[2]} pixels; expected at least {side}: choose a"
            " smaller --side"
        )
    return x[..., top : top + side, left : left + side]


def damaged(x: Tensor, task: str, level: float) -> Measurement:
    """The photo's measurement with noise of ``level``."""
    operator = TASKS[task].bind(tuple(x.shape[1:]))
    return simulate(x, operator, level, generators(0, "noise", [0]))


def restored(prior: AutoencoderAlone, x: Tensor, task: str, fit: int) -> list[float]:
    """PSNR of the measurement, total variation, autoencoder, refine and the latent fit."""
    measurement, row = damaged(x, task, LEVELS[0]), METHODS["refine"]
    settings: Any = row.preset()
    refined = sample(
        "refine",
        prior,
        measurement,
        sigmas=row.levels(settings, row.steps),
        settings=settings,
        generators=generators(0, "sampling", [0]),
    ).images
    with torch.no_grad():
        ceiling = prior.decode(prior.encode(x))
    pictures = (
        measurement_picture(measurement)[1],
        classical(measurement, settings.finish).image,
        ceiling,
        refined,
        latent_fit(prior, measurement, fit, FIT_STEP, FIT_PULL),
    )
    return [metrics.psnr(each.clamp(-1, 1), x) for each in pictures if each is not None]


def gradients(priors: list[AutoencoderAlone], x: Tensor, task: str, level: float) -> list[Tensor]:
    """Those of the loss ``squared`` at the first prior's latents of the first picture."""
    measurement = damaged(x, task, level)
    with torch.no_grad():
        z = priors[0].encode(first_picture(measurement).clamp(-1, 1))
    return [DataLoss(prior, measurement, "squared").gradient(z)[1] for prior in priors]


def row(*cells: object) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--picture", type=Path, required=True, metavar="PHOTO")
    parser.add_argument("--side", type=int, default=128, help="pixels a side, a multiple of 8")
    parser.add_argument("--fit", type=int, default=60, help="steps of the latent fit")
    args = parser.parse_args()
    x = photo(args.picture, args.side)
    row("autoencoder", "task", "degraded", "total variation", "ceiling", "refine, no flow", "fit")
    row(*["---"] * 7)
    for name, title in NAMES.items():
        prior = AutoencoderAlone(args.weights, name)
        for task in TASKS:
            row(title, task, *(f"{v:.2f}" for v in restored(prior, x, task, args.fit)))
    print()
    row("autoencoder", "task", "noise", "largest gradient", "bfloat16", "float16")
    row(*["---"] * 6)
    for name, title in NAMES.items():
        priors = [AutoencoderAlone(args.weights, name, dtype) for dtype in PRECISIONS]
        for task in TASKS:
            for level in LEVELS:
                exact, *halves = gradients(priors, x, task, level)
                apart = [float((half - exact).norm() / exact.norm()) for half in halves]
                largest = f"{float(exact.abs().max()):.2g}"
                row(title, task, level, largest, *(f"{100 * part:.1f} %" for part in apart))


if __name__ == "__main__":
    main()
