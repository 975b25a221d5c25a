"""Errors of the estimators of noise, blur and kernels, and what a restoration loses by them.

``python -m comfyui_flowdps.benchmarks.estimation [noise blur free example restore stop photos]
[--images 4]``.
The pictures are the tuning pictures and random scenes that resemble photos; ``photos`` needs
``--photos FOLDER`` with photos of your own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .. import benchmarks, samplers
from ..estimation.blur import SURE, estimate_blur
from ..estimation.example import operator_from_example
from ..estimation.free import estimate_free_kernel
from ..estimation.jpeg import read_jpeg
from ..estimation.noise import estimate_noise, overall_noise
from ..operators import DefocusBlur, GaussianBlur, Identity, Kernel, Measurement, MotionBlur, Recipe
from ..operators.blurs import line
from ..operators.randomness import generators
from ..priors.diffusers import load_prior
from ..restoration.images import find_images, read_image
from .scenes import dead_leaves, noisy, texture

LEVELS = (0.0, 0.01, 0.03, 0.1, 0.2)
Scene = Callable[[int, int], Tensor]


def gauss(sigma: float) -> Recipe:
    return GaussianBlur(2 * int(4 * sigma + 1) + 1, sigma)


def straight(length: float, angle: float) -> Recipe:
    return Kernel.from_tensor(line(length, angle))


BLURS: dict[str, tuple[Recipe, str, dict[str, float]]] = {
    "none": (Identity(), "none", {}),
    "gaussian 0.5": (gauss(0.5), "gaussian", {"sigma": 0.5}),
    "gaussian 1": (gauss(1.0), "gaussian", {"sigma": 1.0}),
    "gaussian 2": (gauss(2.0), "gaussian", {"sigma": 2.0}),
    "gaussian 4": (gauss(4.0), "gaussian", {"sigma": 4.0}),
    "defocus 2": (DefocusBlur(2.0), "defocus", {"radius": 2.0}),
    "defocus 4": (DefocusBlur(4.0), "defocus", {"radius": 4.0}),
    "defocus 7": (DefocusBlur(7.0), "defocus", {"radius": 7.0}),
    "motion 6, 70°": (straight(6, 70), "motion", {"length": 6.0, "angle": 70.0}),
    "motion 12, 30°": (straight(12, 30), "motion", {"length": 12.0, "angle": 30.0}),
    "motion 20, 100°": (straight(20, 100), "motion", {"length": 20.0, "angle": 100.0}),
}


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def head(*cells: object) -> None:
    row(*cells)
    row(*["---"] * len(cells))


def applied(recipe: Recipe, x: Tensor) -> Tensor:
    return recipe.bind(tuple(x.shape[1:])).A(x)


def scenes(side: int, count: int, textures: bool = True) -> dict[str, list[Tensor]]:
    made = {"leaves": [dead_leaves(side, 100 + k) for k in range(count)]}
    if textures:
        made["texture"] = [texture(side, 100 + k) for k in range(count)]
    if side == 128:
        made = {"pictures": list(benchmarks.pictures("tune", count).split(1)), **made}
    return made


def noise(count: int) -> None:
    """Mean of the estimates, and the largest error of any channel."""
    head("scene", "side", *(f"noise {level}" for level in LEVELS))
    for side in (64, 128, 256):
        for name, images in scenes(side, count).items():
            for blur in (None, gauss(1.5)):
                cells = []
                for level in LEVELS:
                    y = [
                        noisy(applied(blur, x) if blur else x, level, k)
                        for k, x in enumerate(images)
                    ]
                    found = torch.cat([estimate_noise(each) for each in y])
                    worst = float((found - level).abs().max())
                    cells.append(f"{float(found.mean()):.4f} ± {worst:.4f}")
                row(f"{name}, {'blurred' if blur else 'sharp'}", side, *cells)


def likeness(a: Tensor, b: Tensor) -> float:
    """Correlation of two centred kernels of odd sizes."""
    size = max(*a.shape, *b.shape)
    a, b = (
        F.pad(k, [(size - k.shape[1]) // 2] * 2 + [(size - k.shape[0]) // 2] * 2) for k in (a, b)
    )
    return float((a * b).sum() / (a.norm() * b.norm()))


def true_kernel(recipe: Recipe) -> Tensor:
    if isinstance(recipe, GaussianBlur):
        return recipe.taps()[:, None] * recipe.taps()
    return recipe.kernel() if hasattr(recipe, "kernel") else torch.ones(1, 1).double()  # type: ignore


def error(name: str, found: float, true: float) -> float:
    if name == "angle":
        return abs((found - true + 90) % 180 - 90)
    return 100 * abs(found - true) / true


def blur(count: int) -> None:
    """Family right, unsure or wrong; median and largest error of its parameters; correlation."""
    head("scene", *JUDGED)
    for scene, images in scenes(128, count, textures=False).items():
        for name, case in BLURS.items():
            for level in (0.01, 0.03):
                y = [noisy(applied(case[0], x), level, k) for k, x in enumerate(images)]
                row(scene, name, level, *judged(case, y))


JUDGED = ("blur", "noise", "right, unsure, wrong", "median error", "largest", "correlation")


def judged(case: tuple[Recipe, str, dict[str, float]], photos: list[Tensor]) -> list[str]:
    """The last four cells of ``JUDGED``."""
    recipe, family, true = case
    found = [estimate_blur(y) for y in photos]
    right = sum(b.family == family for b in found)
    unsure = sum(b.family not in (family, "none") and b.margin < SURE for b in found)
    errors: dict[str, list[float]] = {key: [] for key in true}
    for each in found:
        values = each.candidates[family][0] if true else {}
        for key, value in values.items():
            errors[key].append(error(key, value, true[key]))
    units = {"angle": "°"}
    median, worst = (
        ", ".join(f"{do(e):.1f} {units.get(key, '%')}" for key, e in errors.items())
        for do in (statistics.median, max)
    )
    like = statistics.mean(likeness(b.kernel, true_kernel(recipe)) for b in found)
    return [f"{right}, {unsure}, {len(found) - right - unsure}", median, worst, f"{like:.2f}"]


def free(count: int) -> None:
    """Correlation of free kernels with the true ones, and whether they are trusted, per picture."""
    head("scene", "blur", "noise", *FREED)
    for scene, images in scenes(128, count, textures=False).items():
        for name, recipe in SHAKES.items():
            for level in (0.01, 0.03):
                y = [noisy(applied(recipe, x), level, k) for k, x in enumerate(images)]
                row(scene, name, level, *freed(recipe, y))


SHAKES = {
    "motion, 13": MotionBlur(13, 0.5, 1),
    "motion, 17": MotionBlur(17, 0.5, 5),
    "defocus 4": DefocusBlur(4.0),
    "none": Identity(),
}
FREED = ("correlation", "gain", "trusted")


def freed(recipe: Recipe, photos: list[Tensor]) -> list[str]:
    """The cells of ``FREED``, with the correlation at the best shift."""
    found = [estimate_free_kernel(y, 19) for y in photos]
    like = [shifted_likeness(each.kernel, true_kernel(recipe)) for each in found]
    cells = [f"{value:.2f}" for value in like], [f"{each.score:.2f}" for each in found]
    return [*map(", ".join, cells), ", ".join("yes" if e.trusted else "no" for e in found)]


def shifted_likeness(a: Tensor, b: Tensor) -> float:
    """Correlation of two kernels at the shift where it is largest."""
    spectra = [torch.fft.rfft2(k, s=(64, 64)) for k in (a, b)]
    both = torch.fft.irfft2(spectra[0] * spectra[1].conj(), s=(64, 64))
    return float(both.max() / (a.norm() * b.norm()))


def example(count: int) -> None:
    """Relative error of the kernel, and of the noise level."""
    head("scene", "blur", "noise", "kernel error", "noise found")
    for scene, images in scenes(128, count).items():
        for name in ("gaussian 2", "defocus 4", "motion 12, 30°"):
            recipe = BLURS[name][0]
            for level in (0.01, 0.03):
                pairs = [(x, noisy(applied(recipe, x), level, k)) for k, x in enumerate(images)]
                row(scene, name, level, *learned(recipe, pairs))


def learned(recipe: Recipe, pairs: list[tuple[Tensor, Tensor]]) -> list[str]:
    """Mean relative error of kernels of 21 x 21, and mean noise level."""
    want = true_kernel(recipe)
    want = F.pad(want, [(21 - want.shape[1]) // 2] * 2 + [(21 - want.shape[0]) // 2] * 2)
    found = [operator_from_example(*pair, 21) for pair in pairs]
    wrong = statistics.mean(float((e.kernel - want).norm() / want.norm()) for e in found)
    return [f"{100 * wrong:.1f} %", f"{statistics.mean(e.noise_level for e in found):.4f}"]


def sampled(prior, y: Tensor, recipe: Recipe, level: float, settings=None) -> tuple[Tensor, float]:
    """Restoration by the thorough FlowDPS, and the ratio of its residual to the true noise."""
    settings = settings or samplers.preset("flowdps", "thorough")
    problem = Measurement(y, recipe.bind(tuple(y.shape[1:])), level)
    gens = generators(0, "sampling", range(len(y)))
    sigmas = samplers.published_sigmas(28)
    result = samplers.sample(
        "flowdps", prior, problem, sigmas=sigmas, settings=settings, generators=gens
    )
    x = samplers.finished(prior, result, problem, settings).clamp(-1, 1)
    return x, float(problem.residual_ratio(x))


def restore(count: int) -> None:
    """PSNR of restorations with the true operator and noise, and with the estimated ones."""
    prior, x, level = load_prior(), benchmarks.pictures("tune", count), 0.03
    head("blur", "photo", "true operator and noise", "estimated", "found")
    for name in ("gaussian 2", "defocus 4", "motion 12, 30°"):
        recipe = BLURS[name][0]
        y = torch.cat([noisy(applied(recipe, each), level, k) for k, each in enumerate(x.split(1))])
        known = benchmarks.mean_psnr(sampled(prior, y, recipe, level)[0], x)
        blind, found = [], []
        for each in y.split(1):
            blur = estimate_blur(each)
            found.append(f"{blur.family} {' '.join(f'{v:.1f}' for v in blur.parameters.values())}")
            blind.append(sampled(prior, each, blur.recipe, blur.noise_level)[0])
        own = benchmarks.mean_psnr(torch.cat(blind), x)
        row(
            name,
            f"{benchmarks.mean_psnr(y, x):.2f}",
            f"{known:.2f}",
            f"{own:.2f}",
            "; ".join(found),
        )


def stop(count: int) -> None:
    """PSNR and residual ratio of the thorough FlowDPS with the discrepancy principle."""
    prior, x, level = load_prior(), benchmarks.pictures("tune", count), 0.1
    head("task, noise 0.1", *(f"stop {ratio}" for ratio in (0, 1, 1.2)))
    for name, recipe in (("denoising", Identity()), ("gaussian 2", gauss(2.0))):
        y = torch.cat([noisy(applied(recipe, each), level, k) for k, each in enumerate(x.split(1))])
        cells = []
        for ratio in (0.0, 1.0, 1.2):
            settings = samplers.override(samplers.preset("flowdps", "thorough"), stop=ratio)
            found, left = sampled(prior, y, recipe, level, settings)
            cells.append(f"{benchmarks.mean_psnr(found, x):.2f} dB, residual {left:.2f}")
        row(name, *cells)


SHOT: dict[str, tuple[Recipe, str, dict[str, float]]] = {
    "none": BLURS["none"],
    "gaussian 1": BLURS["gaussian 1"],
    "gaussian 2": BLURS["gaussian 2"],
    "defocus 3": (DefocusBlur(3.0), "defocus", {"radius": 3.0}),
    "defocus 6": (DefocusBlur(6.0), "defocus", {"radius": 6.0}),
    "motion 10, 30°": (straight(10, 30), "motion", {"length": 10.0, "angle": 30.0}),
    "motion 20, 100°": BLURS["motion 20, 100°"],
}
BORDER = 12
"""Pixels that are cut off each side of a simulated blur, where the border affects it."""


def blurred(recipe: Recipe, x: Tensor) -> Tensor:
    """The blurred x without its border, so that it does not depend on what lies beyond x."""
    return applied(recipe, x)[..., BORDER:-BORDER, BORDER:-BORDER]


def photos(folder: Path) -> None:
    """The estimators on photos from a camera. The photos are halved in size, which removes most of
    their own noise and blur, before noise and blur are simulated."""
    files = find_images([folder])
    whole = [read_image(file)[0] for file in files]
    halves = [F.avg_pool2d(x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2], 2) for x in whole]
    head("photo", "pixels", "noise as it is", "halved", *(f"and {v} added" for v in (0.03, 0.1)))
    for k, (file, x, half) in enumerate(zip(files, whole, halves, strict=True)):
        y = [x, half, noisy(half, 0.03, k), noisy(half, 0.1, k)]
        levels = [f"{overall_noise(each):.4f}" for each in y]
        row(file.name, f"{x.shape[3]}x{x.shape[2]}", *levels)
    print()
    head("JPEG", "read", "tables as Pillow reads them")
    for file in files:
        if file.suffix.lower() in (".jpg", ".jpeg"):
            row(file.name, read_jpeg(file), "yes" if tables_agree(file) else "no")
    print()
    head(*JUDGED)
    for name, case in SHOT.items():
        for level in (0.01, 0.03):
            y = [noisy(blurred(case[0], x), level, k) for k, x in enumerate(halves)]
            row(name, level, *judged(case, y))
    print()
    head("blur", "noise", "kernel error from an example", "noise found")
    for name in ("gaussian 2", "defocus 3", "motion 10, 30°"):
        for level in (0.01, 0.03):
            clean = [x[..., BORDER:-BORDER, BORDER:-BORDER] for x in halves]
            seen = [noisy(blurred(SHOT[name][0], x), level, k) for k, x in enumerate(halves)]
            row(name, level, *learned(SHOT[name][0], list(zip(clean, seen, strict=True))))
    print()
    head("blur", "noise", *FREED)
    for name, recipe in SHAKES.items():
        for level in (0.01, 0.03):
            y = [noisy(blurred(recipe, x), level, k) for k, x in enumerate(halves)]
            row(name, level, *freed(recipe, y))


def tables_agree(file: Path) -> bool:
    """Whether the operator has the same quantisation tables as Pillow reads."""
    recipe = read_jpeg(file).recipe
    with Image.open(file) as image:
        tables = image.quantization  # type: ignore[attr-defined]
        return [*recipe.tables()[0]] == [*tables[min(tables)]] and [*recipe.tables()[1]] == [
            *tables[max(tables)]
        ]


PARTS = {
    "noise": noise,
    "blur": blur,
    "free": free,
    "example": example,
    "restore": restore,
    "stop": stop,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS, "photos"], default=[])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--photos", type=Path, help="a folder of photos from a camera")
    args = parser.parse_args()
    if "photos" in args.parts and args.photos is None:
        parser.error("the part photos needs a folder of pictures: add --photos FOLDER")
    for part in args.parts or [*PARTS, *(["photos"] if args.photos else [])]:
        print(f"\n{part}\n")
        if part == "photos":
            photos(args.photos)
        else:
            PARTS[part](args.images)


if __name__ == "__main__":
    main()
