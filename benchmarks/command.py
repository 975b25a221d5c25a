"""``flowdps bench``: all methods and classical baselines on the held-out pictures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .. import samplers
from ..operators import Identity, LinearOperator, Measurement, simulate
from ..operators.randomness import generators
from ..priors.base import BasePrior, FlowPrior
from ..priors.built_in import built_in
from ..priors.gradients.modes import MODES
from ..restoration import images
from ..samplers.classical import latent_fit, total_variation, upsample_bicubic, wiener
from .perceptual import ALEXNET, INCEPTION, flip_of
from .results import (
    BLIND,
    FIT,
    UNFLOWN,
    UNPOLISHED,
    Result,
    mean,
    mean_psnr,
    paired,
    score,
    summary,
    table,
)
from .tasks import PAPER, TASKS, found_in

HELD_OUT = Path(__file__).resolve().parent / "pictures"
PHOTOS = "photos"
"""The name of the photographs in ``HELD_OUT``, for ``--pictures`` and ``pictures``."""
SMALL_SIDE, SIDE, PROMPT = 128, 768, "a high quality photo"
"""Sides of own pictures for the priors that come along and for other models, and what the paper's
prompts for general pictures begin with; there, tags follow that another model finds in the
measurement."""
IMAGES, STEPS = 32, 28
STRENGTHS = [0.001, 0.003, 0.006, 0.01, 0.02, 0.04, 0.08]
WIENER_STRENGTHS = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]
FIT_STEP, FIT_PULL = 0.2, 1.0
"""Step size of the latent fit, and weight of its pull towards zero: the best of seven pairs, with
steps of 0.02 to 0.2 and weights of 0 to 1, on tuning pictures, for SR x4 and the Gaussian blur."""


def pictures(kind: str, count: int | None = None) -> Tensor:
    """Held-out pictures of ``kind``, (N, 3, side, side) in [-1, 1].

    ``test`` or ``tune`` are emoji of 128 pixels, ``photos/test`` or ``photos/tune`` photographs of
    256.
    """
    folder = HELD_OUT / kind
    if not folder.is_dir():
        raise ValueError(
            f"no pictures in {folder}; they come with a clone of the repository and with the wheel"
        )
    files = images.find_images([folder])
    return torch.cat([images.read_image(file)[0] for file in files[:count]])


def centres(x: Tensor, side: int) -> Tensor:
    """The middle ``side`` x ``side`` pixels of the pictures x; ValueError if they are smaller."""
    if not 0 < side <= min(x.shape[-2:]):
        raise ValueError(f"--side is {side}; expected 1 to {min(x.shape[-2:])} for these pictures")
    top, left = ((n - side) // 2 for n in x.shape[-2:])
    return x[..., top : top + side, left : left + side].contiguous()


def own_picture(file: Path, side: int) -> Tensor:
    """The centre of a user's picture, resized to ``side``: (1, 3, side, side). What was
    converted, such as alpha and colours, is told on standard error.
    """
    x, notes = images.read_image(file)
    for note in notes:
        print(f"{file.name}: {note}", file=sys.stderr)
    return images.square(x, side)


def own_pictures(folder: Path, side: int, count: int | None = None) -> Tensor:
    """The pictures in a folder, their centres resized to ``side``: (N, 3, side, side)."""
    files = images.find_images([folder])[:count]
    return torch.cat([own_picture(file, side) for file in files])


def measure(x: Tensor, task: str, noise: float, seed: int) -> Measurement:
    """Simulated measurement of the pictures ``x`` for a task of the benchmark."""
    case = TASKS[task]
    operator = case.make(seed).bind(tuple(x.shape[1:]))
    if case.assumed_noise is not None:
        return Measurement(operator.A(x), operator, case.assumed_noise)
    return simulate(x, operator, noise, generators(seed, "noise", range(len(x))))


def measurement_picture(measurement: Measurement) -> tuple[str, Tensor]:
    """The measurement as a picture in the image's size, (N, 3, H, W), after the method's name."""
    operator = measurement.operator
    seen, whole = operator.picture(measurement.y), operator.in_shape[1:]
    sizes = list(zip(whole, seen.shape[2:], strict=True))
    if all(w == n for w, n in sizes):
        return "degraded", seen
    if all(w % n == 0 for w, n in sizes):
        return "bicubic", upsample_bicubic(replace(measurement, y=seen))
    return "degraded", measurement.linear.pinv(measurement.y)


def classical_measurement(measurement: Measurement) -> Measurement:
    """The measurement for classical methods: for a nonlinear operator, its picture, as if noisy."""
    if isinstance(measurement.operator, LinearOperator):
        return measurement
    _, y = measurement_picture(measurement)
    return Measurement(y, Identity().bind(tuple(y.shape[1:])), measurement.noise_level)


class WithoutFlow(BasePrior):
    """The autoencoder of a prior, with a model that only scales: the same without the flow."""

    def __init__(self, prior: FlowPrior):
        super().__init__()
        self.inner, self.passes = prior, prior.passes
        self.latent_channels, self.stride = prior.latent_channels, prior.stride
        self.device, self.dtype = prior.device, prior.dtype
        self.error_spectrum = prior.error_spectrum

    def denoise(self, z: Tensor, sigma: float) -> Tensor:
        """The latents whose noisy version has the mean z; opposite noises cancel in their mean."""
        return z / (1 - sigma)

    def decode(self, z: Tensor) -> Tensor:
        """Images of latents."""
        return self.inner.decode(z)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the latents of images."""
        return self.inner.moments(x)


class Bench:
    """Runs every method on the same measurements; ``batch`` pictures at a time."""

    def __init__(self, prior: FlowPrior, args: argparse.Namespace):
        self.prior, self.args = prior, args
        self.photos = str(args.pictures) == PHOTOS
        self.tune = pictures(f"{PHOTOS}/tune" if args.pictures else "tune", args.tune_images)
        if self.photos:
            self.test = pictures(f"{PHOTOS}/test", args.images)
            if args.side:
                self.test, self.tune = (centres(x, args.side) for x in (self.test, self.tune))
        elif args.pictures:
            side = args.side or (SMALL_SIDE if built_in(args.prior) else SIDE)
            self.test = own_pictures(args.pictures, side, args.images)
        else:
            self.test = pictures("test", args.images or IMAGES)
        self.flip = flip_of()
        if isinstance(self.flip, str):
            print(self.flip, file=sys.stderr)
        self.results: list[Result] = []
        setting = [len(self.test), args.steps or STEPS, args.noise, args.seed]
        setting.append(str(args.prior or "demo"))
        if args.pictures:
            setting += [str(args.pictures), self.test.shape[-1]]
        self.setting = json.dumps(setting)
        self.known: list[Result] = []
        if args.out and args.out.exists():
            self.known = [Result(**row) for row in json.loads(args.out.read_text())]

    def keep(self, result: Result) -> None:
        """Add a result, and write all of them to the file ``--out``."""
        self.results.append(result)
        others = [row for row in self.known if not any(row.same(r) for r in self.results)]
        if self.args.out:
            self.args.out.write_text(json.dumps([vars(r) for r in self.results + others], indent=1))
        print(
            f"{result.task}, {result.method}: {mean(result.psnr):.2f} dB",
            file=sys.stderr,
            flush=True,
        )

    def timed(self, task: str, method: str, measurement: Measurement, chosen: str, restore) -> None:
        """Restore batch by batch and measure, unless the file ``--out`` has the result already."""
        mould = Result(task, method, [], [], [], 0.0, 0, 0, chosen, self.setting)
        if found := next((row for row in self.known if row.same(mould)), None):
            self.keep(found)
            return
        before, began = dict(self.prior.passes), time.perf_counter()
        parts, batches = [], 0
        for start in range(0, len(self.test), self.args.batch):
            rows = slice(start, start + self.args.batch)
            part = Measurement(measurement.y[rows], measurement.operator, measurement.noise_level)
            parts.append(restore(part, start).detach())
            batches += 1
        seconds = (time.perf_counter() - began) / len(self.test)
        passes = {k: round((v - before[k]) / batches) for k, v in self.prior.passes.items()}
        result = score(
            task,
            method,
            self.test,
            torch.cat(parts),
            measurement,
            seconds=seconds,
            decoder=passes["decoder"],
            transformer=passes["transformer"],
            chosen=chosen,
            setting=self.setting,
            flip=None if isinstance(self.flip, str) else self.flip,
        )
        self.keep(result)

    def tuned(
        self,
        task: str,
        method: str,
        measurement: Measurement,
        practice: Measurement,
        grid: dict[str, Callable[..., Tensor]],
    ) -> None:
        """A baseline with the entry of ``grid`` that is best on the tuning pictures."""
        wanted = (task, method, self.setting)
        known = (r.chosen for r in self.known if (r.task, r.method, r.setting) == wanted)
        clean = self.tune[: len(practice.y)]
        best = next((name for name in known if name in grid), None) or max(
            grid,
            key=lambda name: mean_psnr(
                grid[name](measurement=classical_measurement(practice)), clean
            ),
        )
        self.timed(
            task,
            method,
            measurement,
            best,
            lambda m, _: grid[best](measurement=classical_measurement(m)),
        )

    def ceiling(self) -> None:
        """Encode and decode the clean pictures: roughly the best that methods can reach."""
        operator = Identity().bind(tuple(self.test.shape[1:]))
        clean = Measurement(self.test, operator, self.args.noise)
        self.timed(
            "any",
            "autoencoder ceiling",
            clean,
            "",
            lambda m, _: self.prior.decode(self.prior.encode(m.y)),
        )

    def task(self, task: str) -> None:
        """All baselines and methods on one task."""
        args, prior = self.args, self.prior
        measurement = measure(self.test, task, args.noise, args.seed)
        practice = measure(self.tune, task, args.noise, args.seed + 1)
        name, _ = measurement_picture(measurement)
        self.timed(task, name, measurement, "", lambda m, _: measurement_picture(m)[1])
        for method, restorer, grid in (
            ("Wiener", wiener, WIENER_STRENGTHS),
            ("total variation", total_variation, STRENGTHS),
        ):
            self.tuned(
                task,
                method,
                measurement,
                practice,
                {f"strength {s}": partial(restorer, strength=s) for s in grid},
            )
        for method in args.methods:
            settings = samplers.suited(samplers.preset(method, args.preset), prior)
            made: dict[int, samplers.Sample] = {}

            def restore(
                m: Measurement, start: int, method=method, settings=settings, made=made
            ) -> Tensor:
                made[start] = self.sampled(method, prior, m, start, settings)
                return samplers.finished(prior, made[start], m, settings)

            self.timed(task, method, measurement, str(settings), restore)
            if method == "refine":
                unflown = WithoutFlow(prior)
                self.timed(
                    task,
                    UNFLOWN,
                    measurement,
                    str(settings),
                    lambda m, start, method=method, settings=settings, unflown=unflown: (
                        samplers.finished(
                            unflown, self.sampled(method, unflown, m, start, settings), m, settings
                        )
                    ),
                )
            if method == "flowdps" and settings.finish.pixel_error_std:
                self.timed(
                    task,
                    UNPOLISHED,
                    measurement,
                    str(settings),
                    lambda _, start, made=made: prior.decode(made[start].latents),
                )
            if method == args.methods[0] and TASKS[task].blind:
                blind = partial(self.blind, task, method, settings)
                self.timed(task, BLIND.format(method), measurement, str(settings), blind)
        # It takes longer than all the others.
        passes = (args.steps or STEPS) * samplers.preset(
            "flowdps", "thorough"
        ).data_step.inner_steps
        if task in PAPER and (self.photos or "flowdps" in args.methods):
            self.timed(
                task,
                FIT,
                measurement,
                f"{passes} steps of {FIT_STEP}, pull {FIT_PULL}",
                lambda m, _: latent_fit(prior, m, passes, FIT_STEP, FIT_PULL),
            )

    @torch.no_grad()
    def sampled(
        self,
        method: str,
        prior: FlowPrior,
        measurement: Measurement,
        start: int,
        settings: samplers.MethodSettings,
    ) -> samplers.Sample:
        """Results for the pictures from ``start`` on."""
        row = samplers.method_named(method)
        return samplers.sample(
            method,
            prior,
            measurement,
            sigmas=row.levels(settings, self.args.steps or row.steps),
            settings=settings,
            generators=generators(
                self.args.seed, "sampling", range(start, start + len(measurement.y))
            ),
        )

    def blind(
        self,
        task: str,
        method: str,
        settings: samplers.MethodSettings,
        measurement: Measurement,
        start: int,
    ) -> Tensor:
        """A method with degradation and noise estimated from each measurement alone."""
        case, shape = TASKS[task], measurement.operator.in_shape
        restored = []
        for k, y in enumerate(measurement.y.split(1)):
            recipe, level = found_in(y, case, self.args.seed)
            guess = Measurement(y, recipe.bind(shape), level)
            result = self.sampled(method, self.prior, guess, start + k, settings)
            restored.append(samplers.finished(self.prior, result, guess, settings))
        return torch.cat(restored)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``flowdps bench``."""
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=["paper", "all", *TASKS],
        metavar="TASK",
        help="paper: the four tasks of the paper; all; or some by name; default: all for photos,"
        " else paper: " + "; ".join(TASKS).replace("%", "%%"),
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(samplers.METHODS),
        help="default: refine for photos, else all",
    )
    parser.add_argument("--preset", choices=list(samplers.PRESETS), help="default: each method's")
    parser.add_argument(
        "--paper",
        action="store_true",
        help="the tasks of the FlowDPS paper at 768 x 768 with its settings, and refine and the"
        " default presets beside them; needs --prior and --pictures, and takes minutes a picture",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help=f"{PHOTOS}: the held-out photographs of 256 pixels that come with this program; or a"
        " folder of your own pictures, whose centres are resized to --side (./photos, if it is"
        " called so)",
    )
    parser.add_argument(
        "--side",
        type=int,
        help=f"side of your pictures in pixels; default: {SMALL_SIDE} for the priors that come"
        f" along, else {SIDE}; with {PHOTOS}, the middle of each is taken, by default all of it",
    )
    parser.add_argument(
        "--images",
        type=int,
        help=f"pictures to use; default: {IMAGES} held-out test pictures, or all of --pictures",
    )
    parser.add_argument("--tune-images", type=int, default=16, help="pictures to tune baselines on")
    parser.add_argument("--steps", type=int, help="noise levels; default: each method's own")
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prior", help="as for restore")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--out",
        type=Path,
        help="also write every number of every image as JSON; results in the file are not redone",
    )
    paper = parser.add_argument_group("with --paper")
    paper.add_argument(
        "--prompt", help='for all pictures, such as "a photo of a closed face"; default: ' + PROMPT
    )
    paper.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="a text file with a line for every picture: file name, tab, prompt",
    )
    paper.add_argument("--config", help="model folder or hub id with the text encoders")
    paper.add_argument(
        "--memory", choices=["auto", *MODES], default="auto", help="mode of the decoder's gradient"
    )
    paper.add_argument(
        "--save", type=Path, metavar="FOLDER", help="keep the restorations there; FID needs them"
    )
    paper.add_argument(
        "--download",
        action="store_true",
        help="let LPIPS and FID, where lpips and torch-fidelity are installed, download their"
        f" networks: {ALEXNET[1]}, {INCEPTION[1]}",
    )


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    photos = str(args.pictures) == PHOTOS
    args.tasks = args.tasks or ["all" if photos else "paper"]
    args.methods = args.methods or (["refine"] if photos else list(samplers.METHODS))
    if args.paper:
        from . import paper

        if photos:
            args.pictures = HELD_OUT / PHOTOS / "test"
        return paper.run(args)
    from ..priors.diffusers import load_prior

    bench = Bench(load_prior(args.prior, device=args.device, dtype=args.dtype), args)
    bench.ceiling()
    groups = {"paper": PAPER, "all": list(TASKS)}
    for task in dict.fromkeys(t for name in args.tasks for t in groups.get(name, [name])):
        bench.task(task)
    own = args.methods[0]
    tables = (make(bench.results, own) for make in (table, summary, paired))
    print("\n\n".join(tables))
    return 0
