"""How far the spread of several samples tells the error of their mean.

``python -m comfyui_flowdps.benchmarks.samples [--method refine] [--preset tuned] [--samples 8]
[--tune 4] [--test 6] [--steps N] [--denoise LEVEL] [--keep FOLDER]``.
The tuning pictures give the factor, rms error of the mean over rms spread. On the test pictures,
the spread is multiplied by it. ``within 2``: pixels whose error, rms over the colours, is at most
twice that spread. ``correlation``: of a pixel's error and its spread, the mean over the pictures.
PSNR is in dB, the mean over the pictures. For samples of the true posterior, the factor is
√(1 + 1 / K).
With ``--keep``, the samples are stored in the folder, and those found there are not drawn again.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from .. import benchmarks, samplers
from ..operators import simulate
from ..operators.randomness import generator, key_of_draw
from ..priors.base import FlowPrior
from ..priors.diffusers import load_prior
from ..restoration import metrics
from ..restoration.several import Several
from .tasks import TASKS

CASES = ("SR x4", "Gaussian blur, sigma 3")
NOISE = 0.03


def drawn(
    prior: FlowPrior, clean: Tensor, task: str, name: str, args: argparse.Namespace
) -> Several:
    """Samples of the restoration of one picture (1, 3, H, W), not calibrated."""
    row = samplers.method_named(args.method)
    settings = samplers.override(row.preset(args.preset), denoise=args.denoise)
    operator = TASKS[task].make(0).bind(tuple(clean.shape[1:]))
    measurement = simulate(clean, operator, NOISE, [generator(0, "noise", name)])
    sigmas = row.levels(settings, args.steps or row.steps)
    images = []
    for k in range(args.samples):
        draws = [generator(0, "sampling", key_of_draw(name, k))]
        result = samplers.sample(
            row.name, prior, measurement, sigmas=sigmas, settings=settings, generators=draws
        )
        images.append(samplers.finished(prior, result, measurement, settings).clamp(-1, 1))
    ratios = [float(measurement.residual_ratio(x)) for x in images]
    return Several(torch.cat(images), ratios)


def all_drawn(
    prior: FlowPrior, kind: str, task: str, args: argparse.Namespace
) -> list[tuple[Tensor, Several]]:
    """Clean pictures of ``kind`` and their samples."""
    found = []
    count = args.tune if kind == "tune" else args.test
    for i, x in enumerate(benchmarks.pictures(kind, count)):
        chosen = (args.method, args.preset, args.steps, args.denoise, args.samples, task, kind, i)
        file = args.keep and args.keep / f"{'_'.join(map(str, chosen)).replace(' ', '_')}.pt"
        if file and file.exists():
            images, ratios = torch.load(file)
            found.append((x[None], Several(images, ratios)))
            continue
        several = drawn(prior, x[None], task, f"{kind} {i}", args)
        if file:
            torch.save((several.images, several.ratios), file)
        found.append((x[None], several))
    return found


def error(clean: Tensor, several: Several) -> Tensor:
    """Root mean square over the colours of the error of the mean, (1, 1, H, W)."""
    return (several.mean - clean).square().mean(1, keepdim=True).sqrt()


def rms(maps: list[Tensor]) -> float:
    """Root mean square of all values."""
    return math.sqrt(sum(float(x.square().mean()) for x in maps) / len(maps))


def factor(found: list[tuple[Tensor, Several]]) -> float:
    """Root mean square error of the means over that of the spreads."""
    return rms([error(*each) for each in found]) / rms([each.spread for _, each in found])


def line(kind: str, task: str, found: list[tuple[Tensor, Several]], scale: float) -> str:
    """A row of the table, with the spread multiplied by ``scale``."""
    errors = [error(*each) for each in found]
    spreads = [scale * each.spread for _, each in found]
    pairs = list(zip(errors, spreads, strict=True))
    within = sum(float((e <= 2 * s).float().mean()) for e, s in pairs) / len(pairs)
    correlation = sum(
        float(torch.corrcoef(torch.stack([e.flatten(), s.flatten()]))[0, 1]) for e, s in pairs
    ) / len(pairs)
    of_mean = sum(metrics.psnr(each.mean, x) for x, each in found) / len(found)
    of_best = sum(metrics.psnr(each.images[each.best], x) for x, each in found) / len(found)
    of_one = sum(
        metrics.psnr(one, x) / len(each.images) for x, each in found for one in each.images
    ) / len(found)
    cells = [
        *(kind, task, str(len(found)), f"{rms(errors):.4f}", f"{rms(spreads) / scale:.4f}"),
        *(f"{factor(found):.2f}", f"{scale:.2f}", f"{within:.1%}", f"{correlation:.2f}"),
        *(f"{of_mean:.2f}", f"{of_one:.2f}", f"{of_best:.2f}"),
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| pictures | task | number | rms error of the mean | rms spread | factor | factor used"
    " | within 2 | correlation | PSNR of the mean | of a sample | of the best |\n|"
) + "---|" * 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="refine", choices=list(samplers.METHODS))
    parser.add_argument("--preset")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tune", type=int, default=4)
    parser.add_argument("--test", type=int, default=6)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--denoise", type=float)
    parser.add_argument("--tasks", nargs="+", default=list(CASES))
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    prior = load_prior(None, device="cpu", cfg=samplers.method_named(args.method).cfg)
    print(HEAD, flush=True)
    tuned = []
    for task in args.tasks:
        tuned.append(all_drawn(prior, "tune", task, args))
        print(line("tune", task, tuned[-1], 1.0), flush=True)
    scale = factor([each for found in tuned for each in found])
    print(f"the factor of all tuning pictures: {scale:.2f}", flush=True)
    for task in args.tasks:
        print(line("test", task, all_drawn(prior, "test", task, args), scale), flush=True)


if __name__ == "__main__":
    main()
