"""The table that chose the ``tuned`` presets: settings of each method on the tuning pictures.

``python benchmarks/presets.py [--methods flowdps flowchef psld] [--images 6]``. The pictures are
held out from training and apart from the test pictures of ``flowdps bench``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from comfyui_flowdps import bench, samplers
from comfyui_flowdps.priors.diffusers import load_prior
from comfyui_flowdps.samplers import PRESETS, Settings

NORM = Settings(15.0)
DPS = PRESETS["tuned"]["flowdps"]
ADAM = Settings(0.1, loss="squared", rule="adam", decay=1.0)
CANDIDATES: dict[str, dict[str, Settings]] = {
    "flowdps": {
        "published: norm, step 15": NORM,
        "norm, step 5": replace(NORM, step_size=5.0),
        "Adam 0.2, 8 inner, anchor 2, decay 1, weight one": DPS,
        "step 0.1": replace(DPS, step_size=0.1),
        "step 0.3": replace(DPS, step_size=0.3),
        "4 inner": replace(DPS, inner_steps=4),
        "16 inner": replace(DPS, inner_steps=16),
        "no anchor": replace(DPS, anchor=0.0),
        "anchor 4": replace(DPS, anchor=4.0),
        "decay 0": replace(DPS, decay=0.0, step_size=0.1),
        "weight sigma": replace(DPS, weight="sigma"),
    },
    "flowchef": {
        "published: norm, step 15": NORM,
        "norm, step 1": replace(NORM, step_size=1.0),
        "norm, step 2": replace(NORM, step_size=2.0),
        "norm, step 4": replace(NORM, step_size=4.0),
        "Adam 0.05, decay 1": replace(ADAM, step_size=0.05),
        "Adam 0.1, decay 1": ADAM,
        "Adam 0.2, decay 1": replace(ADAM, step_size=0.2),
        "Adam 0.1, decay 0": replace(ADAM, decay=0.0),
    },
    "psld": {
        "published: norm, step 15": NORM,
        "norm, step 1": replace(NORM, step_size=1.0),
        "norm, step 3": replace(NORM, step_size=3.0),
        "Adam 0.05, decay 1": replace(ADAM, step_size=0.05),
        "Adam 0.1, decay 1": ADAM,
        "Adam 0.2, decay 1": replace(ADAM, step_size=0.2),
        "Adam 0.1, decay 0": replace(ADAM, decay=0.0),
        "Adam 0.2, decay 0": replace(ADAM, decay=0.0, step_size=0.2),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--tasks", nargs="+", choices=list(bench.TASKS), default=list(bench.TASKS))
    parser.add_argument("--images", type=int, default=6)
    args = parser.parse_args()
    prior = load_prior()
    x = bench.pictures("tune", args.images)
    problems = [bench.measure(x, task, 0.03, seed=1) for task in args.tasks]
    print(f"| method | settings | {' | '.join(args.tasks)} | mean, dB | s / image |")
    print(f"|---|---|{'---|' * len(args.tasks)}---|---|")
    for method in args.methods:
        for name, settings in CANDIDATES[method].items():
            began, scores = time.perf_counter(), []
            for problem in problems:
                z = samplers.sample(
                    method,
                    prior,
                    problem,
                    sigmas=samplers.published_sigmas(28),
                    settings=settings,
                    generators=bench.generators(2, 0, len(x)),
                )
                with torch.no_grad():
                    images = samplers.finish(prior.decode(z), problem, settings)
                scores.append(bench.mean_psnr(images, x))
            seconds = (time.perf_counter() - began) / len(x) / len(problems)
            numbers = " | ".join(f"{score:.2f}" for score in scores)
            print(
                f"| {method} | {name} | {numbers} | {sum(scores) / len(scores):.2f} |"
                f" {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
