"""The table by which the ``tuned`` presets were chosen: settings of each method, in PSNR.

``python -m comfyui_flowdps.benchmarks.presets [--methods flowdps flair latino] [--images 4]
[--pixel-error]``.
The tuning pictures are not used for training and are not among the test pictures of
``flowdps bench``. PSNR is that of the decoded latents; with ``--pixel-error``, a second table shows
the gain of the correction in pixels.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from .. import benchmarks, samplers
from ..operators.randomness import generators
from ..priors.diffusers import load_prior
from ..samplers import (
    FlairSettings,
    FlowChefSettings,
    FlowDPSSettings,
    GradientStep,
    MethodSettings,
    PixelStep,
    PSLDSettings,
    WhiteError,
)
from .tasks import PAPER, TASKS

DPS = samplers.with_values(samplers.preset("flowdps"), pixel_error_std=0.0)
THOROUGH = samplers.with_values(samplers.preset("flowdps", "thorough"), pixel_error_std=0.0)
FLAIR = samplers.with_values(samplers.preset("flair"), pixel_error_std=0.0)
LATINO = samplers.with_values(samplers.preset("latino"), pixel_error_std=0.0)


def dps(**changes: Any) -> MethodSettings:
    """FlowDPS's thorough settings with these changes, without the correction in pixels."""
    return samplers.with_values(THOROUGH, **changes)


def chef(step_size: float, **values: Any) -> MethodSettings:
    """FlowChef with this gradient step."""
    return FlowChefSettings(data_step=GradientStep(step_size, **values))


def psld(step_size: float, **values: Any) -> MethodSettings:
    """PSLD with this gradient step."""
    return PSLDSettings(data_step=GradientStep(step_size, **values))


CANDIDATES: dict[str, dict[str, MethodSettings]] = {
    "flowdps": {
        "published: norm, step 15": samplers.preset("flowdps", "published"),
        "**tuned**: in pixels, trust 1, renew 1": DPS,
        "trust 0.5": samplers.with_values(DPS, trust=0.5),
        "trust 2": samplers.with_values(DPS, trust=2.0),
        "renew 0.5, in pixels": samplers.with_values(DPS, renew=0.5),
        "renew 0, in pixels": samplers.with_values(DPS, renew=0.0),
        "white 0.3, as for a model whose errors were not measured": FlowDPSSettings(
            data_step=PixelStep(WhiteError(0.3)), weight="one"
        ),
        "**thorough**: Adam 0.2, 8 inner, proximal_weight 2, renew 1": THOROUGH,
        "step 0.1": dps(step_size=0.1),
        "step 0.3": dps(step_size=0.3),
        "proximal_weight 4": dps(proximal_weight=4.0),
        "16 inner, step 0.1": dps(inner_steps=16, step_size=0.1),
        "renew 0.5": dps(renew=0.5),
        "renew 0": dps(renew=0.0),
        "renew 0, step 0.1": dps(renew=0.0, step_size=0.1),
        "renew 0, step 0.05": dps(renew=0.0, step_size=0.05),
        "renew 0, proximal_weight 4": dps(renew=0.0, proximal_weight=4.0),
    },
    "flowchef": {
        "published: norm, step 15": chef(15.0),
        "norm, step 1": chef(1.0),
        "norm, step 2": chef(2.0),
        "norm, step 4": chef(4.0),
        "**tuned**: residual, step 2": chef(2.0, loss="residual"),
        "residual, step 3": chef(3.0, loss="residual"),
        "squared, Adam 0.1": chef(0.1, loss="squared", rule="adam"),
    },
    "psld": {
        "published: norm, step 15": psld(15.0),
        "norm, step 1": psld(1.0),
        "**tuned**: norm, step 3": psld(3.0),
        "norm, step 6": psld(6.0),
        "squared, Adam 0.1": psld(0.1, loss="squared", rule="adam"),
    },
    "flair": {
        "published, but 6 levels": samplers.preset("flair", "published"),
        "**tuned**: Adam 0.4, 10 inner, errors of the prior": FLAIR,
        "step 0.2": samplers.with_values(FLAIR, step_size=0.2),
        "errors of SD3": samplers.with_values(FLAIR, calibration="sd3"),
        "in pixels, white 0.3, no gradient": FlairSettings(
            data_step=PixelStep(WhiteError(0.3), stop=1.0)
        ),
    },
    "latino": {
        "published: by the residual": samplers.preset("latino", "published"),
        "**tuned**: scale 1": LATINO,
        "scale 0.5": samplers.with_values(LATINO, scale=0.5),
    },
}
POLISH = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06)


def restored(prior, method: str, problem, settings: MethodSettings, count: int) -> torch.Tensor:
    """Decoded samples (N, 3, H, W), without the correction in pixels."""
    z = samplers.sample(
        method,
        prior,
        problem,
        sigmas=samplers.METHODS[method].levels(settings, samplers.METHODS[method].steps),
        settings=settings,
        generators=generators(0, "sampling", range(count)),
    ).latents
    with torch.no_grad():
        return prior.decode(z)


def row(*cells: object) -> None:
    print(f"| {' | '.join(f'{c:.2f}' if isinstance(c, float) else str(c) for c in cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="*", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=PAPER)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--pixel-error", action="store_true")
    args = parser.parse_args()
    prior = load_prior()
    x = benchmarks.pictures("tune", args.images)
    problems = [benchmarks.measure(x, task, 0.03, seed=1) for task in args.tasks]
    row("method", "settings", *args.tasks)
    row(*["---"] * (2 + len(args.tasks)))
    for method in args.methods:
        for name, settings in CANDIDATES[method].items():
            images = [restored(prior, method, p, settings, len(x)) for p in problems]
            row(method, name, *(benchmarks.mean_psnr(image, x) for image in images))
    if args.pixel_error:
        row("task", *(f"pixel_error_std {p}" for p in POLISH))
        row(*["---"] * (1 + len(POLISH)))
        for task, problem in zip(args.tasks, problems, strict=True):
            settings = samplers.preset("flowdps", "thorough")
            image = restored(prior, "flowdps", problem, settings, len(x))
            errors = (samplers.with_values(settings, pixel_error_std=p) for p in POLISH)
            polished = (samplers.data_consistency(image, problem, each) for each in errors)
            row(task, *(benchmarks.mean_psnr(p, x) for p in polished))


if __name__ == "__main__":
    main()
