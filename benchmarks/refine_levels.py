"""The noise levels of ``refine`` that suit a prior, measured on tuning photographs, and written.

``python -m comfyui_flowdps.benchmarks.refine_levels --prior FILE [--images 8] [--side 128]
[--levels 0.3-0.1 0.15-0.06 ...] [--eased 0.5] [--tasks ...] [--preset fast] [--write]``.
Measure the error spectrum first (``benchmarks/error_spectrum.py``). Every row is a task with first
and last noise level: PSNR, and the paired leads over total variation, with the strength that is
best for these very pictures, and over the same without the flow. ``--eased`` is the factor of the
levels where a measurement tells much (``RefineSettings``). ``--write`` keeps it, and the levels
that are best on average, in NAME.spectrum.json, where ``refine`` finds them.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from .. import samplers
from ..operators import Measurement
from ..operators.randomness import generators
from ..priors.base import FlowPrior
from ..priors.built_in import built_in
from ..priors.diffusers import load_prior
from ..priors.error_spectrum import ErrorSpectrum
from ..samplers.classical import total_variation
from .command import (
    PHOTOS,
    STRENGTHS,
    WithoutFlow,
    centres,
    classical_measurement,
    measure,
    pictures,
)
from .results import interval, mean, psnrs
from .tasks import TASKS

CHOSEN = ("average x4", "Gaussian blur, sigma 3", "motion blur, 17", "half of the pixels")
LEVELS = ("0.3-0.1", "0.2-0.08", "0.15-0.06", "0.1-0.05")


def refined(
    prior: FlowPrior, measurement: Measurement, settings: samplers.MethodSettings, steps: int
) -> Tensor:
    """Restorations (N, 3, H, W) with these settings."""
    row, count = samplers.METHODS["refine"], len(measurement.y)
    with torch.no_grad():
        sample = samplers.sample(
            "refine",
            prior,
            measurement,
            sigmas=row.levels(settings, steps),
            settings=settings,
            generators=generators(0, "sampling", range(count)),
        )
        return samplers.finished(prior, sample, measurement, settings)


def lead(a: list[float], b: list[float]) -> str:
    """Mean of a − b, with its 95 % interval."""
    centre, half = interval([x - y for x, y in zip(a, b, strict=True)])
    return f"{centre:+.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior", required=True)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--side", type=int, default=128, help="centres of the photographs")
    parser.add_argument("--levels", nargs="+", default=LEVELS, metavar="FIRST-LAST")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=CHOSEN)
    parser.add_argument(
        "--preset", default="tuned", choices=list(samplers.METHODS["refine"].presets)
    )
    parser.add_argument("--steps", type=int, default=samplers.METHODS["refine"].steps)
    parser.add_argument("--eased", type=float, default=1.0, help="factor where much is known")
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true", help="keep the best in the spectrum's file")
    args = parser.parse_args()
    known = built_in(args.prior)
    file = (known.file if known else Path(args.prior)).with_suffix(".spectrum.json")
    if not file.is_file():
        parser.error(f"{args.prior} has no spectrum yet: measure it by benchmarks.error_spectrum")
    prior = load_prior(args.prior, device=args.device)
    x = centres(pictures(f"{PHOTOS}/tune", args.images), args.side)
    print("| task | levels | total variation | no flow | refine | over TV | over no flow |")
    print("|---|---|---|---|---|---|---|")
    scores: dict[str, list[float]] = {levels: [] for levels in args.levels}
    for task in args.tasks:
        measurement = measure(x, task, args.noise, 1)
        plain = classical_measurement(measurement)
        variation = max((psnrs(total_variation(plain, s), x) for s in STRENGTHS), key=mean)
        for levels in args.levels:
            first, last = map(float, levels.split("-"))
            settings = samplers.with_values(
                samplers.preset("refine", args.preset), denoise=first, last=last, eased=args.eased
            )
            flow, none = (
                psnrs(refined(p, measurement, settings, args.steps), x)
                for p in (prior, WithoutFlow(prior))
            )
            scores[levels].append(mean(flow))
            print(
                f"| {task} | {levels} | {mean(variation):.2f} | {mean(none):.2f} |"
                f" {mean(flow):.2f} | {lead(flow, variation)} | {lead(flow, none)} |",
                flush=True,
            )
    best = max(scores, key=lambda levels: mean(scores[levels]))
    print(f"\nbest on average: {best}")
    if args.write:
        first, last = map(float, best.split("-"))
        dataclasses.replace(ErrorSpectrum.load(file), refine=(first, last), eased=args.eased).save(
            file
        )
        print(f"written: {file}")


if __name__ == "__main__":
    main()
