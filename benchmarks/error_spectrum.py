"""How a prior errs: the spectrum that ``refine`` and ``PixelStep`` use, measured and written.

``python -m comfyui_flowdps.benchmarks.error_spectrum [--prior FILE] [--pictures FOLDER]
[--images 16] [--side 256] [--out NAME.spectrum.json]``.
Pictures are encoded, noise is added at every level and removed by the model (the mean of two pairs
of opposite noises), and the error of the decoded picture is averaged in bands of frequency. The
file belongs beside the weights NAME.safetensors, where the command line and the nodes find it.
Take pictures that are neither trained on nor used to report results; by default the tuning
photographs are, or the tuning emoji for the demo prior.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..operators.linear.transforms import Cosine
from ..operators.randomness import generators
from ..priors.base import FlowPrior
from ..priors.built_in import DEMO, built_in
from ..priors.diffusers import load_prior
from ..priors.error_spectrum import BINS, HIGHEST, ErrorSpectrum, radial_frequency
from ..restoration import images
from ..restoration.pipeline import cover
from ..samplers import randn_like
from .command import PHOTOS, pictures

SIGMAS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0)
PAIRS = 2


def bands(error: Tensor) -> list[float]:
    """Variance per pixel of white noise with the density of ``error`` (N, C, H, W), by band."""
    height, width = error.shape[-2:]
    cosine = Cosine(height, width, error.device, error.dtype)
    band = (radial_frequency(height, width) / HIGHEST * BINS).long().clamp(max=BINS - 1)
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(64, 1, height, width, generator=generator).to(error)
    found, unit = (cosine.there(x).square().mean((0, 1)).cpu() for x in (error, white))
    return [float(found[band == k].mean() / unit[band == k].mean()) for k in range(BINS)]


@torch.no_grad()
def measured(prior: FlowPrior, x: Tensor, sigmas: Sequence[float] = SIGMAS) -> ErrorSpectrum:
    """The error spectrum of ``prior`` on pictures x (N, 3, H, W) in [-1, 1]."""
    noises = generators(0, "sampling", range(len(x)))
    z = prior.encode(x)
    rows = []
    for sigma in sigmas:
        total = torch.zeros_like(z)
        for _ in range(PAIRS):
            noise = randn_like(z, noises)
            for sign in (1, -1):
                total += prior.denoise((1 - sigma) * z + sign * sigma * noise, sigma)
        rows.append(tuple(bands(prior.decode(total / (2 * PAIRS)).float() - x)))
    return ErrorSpectrum(tuple(sigmas), tuple(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior")
    parser.add_argument("--pictures", type=Path, help="folder; default: the tuning photographs")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=256, help="crops of this size, for a folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    known = built_in(args.prior)
    prior = load_prior(args.prior, device=args.device)
    if args.pictures is None:
        x = pictures("tune" if known is DEMO else f"{PHOTOS}/tune", args.images)
    else:
        files = images.find_images([args.pictures])[: args.images]
        x = torch.cat([cover(images.read_image(f)[0], args.side, args.side) for f in files])
    spectrum = measured(prior, x.to(prior.device))
    out = args.out or (known.file if known else Path(args.prior)).with_suffix(".spectrum.json")
    if out.is_file():
        before = ErrorSpectrum.load(out)
        spectrum = dataclasses.replace(spectrum, refine=before.refine, eased=before.eased)
    spectrum.save(out)
    for sigma, row in zip(spectrum.sigmas, spectrum.variance, strict=True):
        print(f"sigma {sigma}: error by band " + " ".join(f"{v**0.5:.3f}" for v in row))
    print(f"written: {out}")


if __name__ == "__main__":
    main()
