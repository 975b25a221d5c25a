"""How far a model's velocity is from the true one, by noise level: the calibration of FLAIR.

``python -m comfyui_flowdps.benchmarks.velocity_error [--prior FILE] [--images 16]``.
Prints pairs of noise level and mean squared error, on the tuning photographs, or the tuning emoji
for the demo prior.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import benchmarks
from ..operators.randomness import generators
from ..priors.base import FlowPrior
from ..priors.built_in import DEMO, built_in
from ..priors.diffusers import load_prior
from ..samplers import randn_like

LEVELS = (1, 0.99, 0.97, 0.94, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01)


@torch.no_grad()
def velocity_error(
    prior: FlowPrior, x: Tensor, sigma: float, drawn: Sequence[torch.Generator]
) -> float:
    """Mean squared error of the velocity at ``sigma`` for pictures x (N, 3, H, W): as
    z = σ ε + (1 − σ) z0 and v = ε − z0, it is that of the denoised latents, divided by σ²."""
    clean = prior.encode(x)
    noisy = sigma * randn_like(clean, drawn) + (1 - sigma) * clean
    return float((prior.denoise(noisy, sigma) - clean).square().mean()) / sigma**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior", default=None)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--draws", type=int, default=4, help="draws of noise for every picture")
    args = parser.parse_args()
    kind = "tune" if built_in(args.prior) is DEMO else "photos/tune"
    prior, x = load_prior(args.prior), benchmarks.pictures(kind, args.images)
    drawn = generators(0, "velocity error", range(len(x)))
    for sigma in LEVELS:
        errors = [velocity_error(prior, x, sigma, drawn) for _ in range(args.draws)]
        print(f"    ({sigma}, {sum(errors) / len(errors):.3f}),", flush=True)


if __name__ == "__main__":
    main()
