"""Train an autoencoder for photographs in TAESD's layout, starting from TAESD3 as its teacher.

``python -m comfyui_flowdps.training.autoencoder --teacher FOLDER --images FOLDER``

The decoder learns alone at first, with the teacher's latents, then the encoder learns with it. A
penalty keeps the encoder's latents close to the teacher's, so that models trained on SD3's latents
understand them.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from . import photos, prior
from .loop import Run, optimisers
from .taesd import Autoencoder

FLOOR = 5e-5
"""Squared error in [0, 1] below which a better image counts for little (43 dB)."""
CLOSENESS = 3.0
"""Weight of the squared distance to the teacher's latents, in units of their own variance."""
ENCODER_RATE = 0.3
"""The encoder's learning rate in the decoder's: latents that tremble can be decoded by neither."""
NOISE = 0.1
"""Largest standard deviation of the noise on latents: it keeps the decoder smooth."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (N,) in dB of images (N, 3, H, W) in [0, 1], after clipping.

    At most 100: equal images would have no finite one.
    """
    error = (a.clamp(0, 1) - b.clamp(0, 1)).square().mean((1, 2, 3))
    return -10 * torch.log10(error.clamp(min=1e-10))


def loss(
    model: Autoencoder,
    teacher: Autoencoder,
    spread: Tensor,
    images: Tensor,
    generator: torch.Generator,
    decoder_only: bool,
) -> tuple[Tensor, Tensor]:
    """Log of the squared error (so, PSNR) plus the penalty; and the squared distance alone.

    A quarter of the images are decoded from latents between the student's and the teacher's, so
    that the decoder serves both. ``spread`` (1, 16, 1, 1) is the teacher's standard deviation.
    """
    with torch.no_grad():
        taught = teacher.encode(images)
    with torch.set_grad_enabled(not decoder_only):
        own = model.encode(images)
    distance = ((own - taught) / spread).square().mean()
    n = len(images)
    draw = torch.rand(3, n, 1, 1, 1, generator=generator).to(images.device)
    part = torch.where(draw[0] < 0.25, draw[1], torch.zeros_like(draw[1]))
    noise = torch.randn(own.shape, generator=generator).to(images.device)
    z = own + part * (taught - own) + NOISE * draw[2].square() * noise
    error = (model.decode(z) - images).square().mean((1, 2, 3))
    return torch.log(error + FLOOR).mean() + CLOSENESS * distance, distance


def parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Inner convolution kernels (for Muon) and the rest (for AdamW)."""
    inner = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[:2]) > 16]
    chosen = {id(p) for p in inner}
    return inner, [p for p in model.parameters() if id(p) not in chosen]


@torch.no_grad()
def evaluate(
    model: Autoencoder, teacher: Autoencoder, images: Tensor, batch: int = 8
) -> dict[str, float]:
    """Mean PSNR in dB of encoding and decoding, also across the two, and the latents' distance.

    ``distance``: root mean square of the difference between the latents, relative to the standard
    deviation of the teacher's, averaged over channels. ``pooled``: PSNR of the mean squared error
    over all crops, which the detailed ones decide.
    """
    sums = dict.fromkeys(("psnr", "to_teacher", "from_teacher", "teacher"), 0.0)
    squared = 0.0
    ours, theirs = [], []
    for part in images.split(batch):
        x = part.to(next(model.parameters()).device).float() / 255
        z, t = model.encode(x), teacher.encode(x)
        own = model.decode(z).clamp(0, 1)
        sums["psnr"] += float(psnr(own, x).sum())
        squared += float((own - x).square().mean((1, 2, 3)).sum())
        sums["to_teacher"] += float(psnr(teacher.decode(z), x).sum())
        sums["from_teacher"] += float(psnr(model.decode(t), x).sum())
        sums["teacher"] += float(psnr(teacher.decode(t), x).sum())
        ours.append(z.transpose(0, 1).flatten(1))
        theirs.append(t.transpose(0, 1).flatten(1))
    z, t = torch.cat(ours, 1), torch.cat(theirs, 1)
    relative = (z - t).square().mean(1).sqrt() / t.std(1)
    means = {key: value / len(images) for key, value in sums.items()}
    means["pooled"] = -10 * math.log10(squared / len(images))
    return means | {"distance": float(relative.mean()), "distance_max": float(relative.max())}


@torch.no_grad()
def latent_spread(teacher: Autoencoder, images: Tensor) -> Tensor:
    """Standard deviation (1, 16, 1, 1) of the teacher's latents of uint8 images."""
    z = torch.cat([teacher.encode(part.float() / 255) for part in images.split(16)])
    return z.std((0, 2, 3), keepdim=True)


@dataclass(frozen=True)
class Plan:
    """How long is trained, and on crops of which size.

    The first part ``alone`` of the steps teaches the decoder alone (all of them, at 1). ``sides``
    are the crops' sides in pixels in the first and in the second half, ``pixels`` those of a batch.
    """

    steps: int = 600
    alone: float = 0.08
    sides: tuple[int, int] = (64, 96)
    pixels: int = 8 * 64**2
    held_out: int = 31
    save_every: int = 25
    log_every: int = 100
    muon: float = 0.0007
    adam: float = 1e-4
    ema: float = 0.997


def train(
    folder: Path,
    model: Autoencoder,
    teacher: Autoencoder,
    pictures: Sequence[photos.Photo],
    held_out: Sequence[photos.Photo],
    plan: Plan,
) -> Autoencoder:
    """Train ``model`` in place and return its moving average; an interrupted run goes on.

    ``folder`` gets the state and the log of the run, which is named ``decoder`` if the encoder
    stays as it is and ``autoencoder`` else.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    crops = photos.Crops(pictures)
    held = photos.fixed_crops(held_out, 2 * plan.sides[0], plan.held_out)
    spread = latent_spread(teacher, crops.draw(64, 64, torch.Generator().manual_seed(1)))
    teacher, spread = teacher.requires_grad_(False).to(device), spread.to(device)
    model = model.to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    chosen = optimisers(*parameters(model.decoder), plan.muon, plan.adam)
    if plan.alone < 1:
        rates = ENCODER_RATE * plan.muon, ENCODER_RATE * plan.adam
        chosen += optimisers(*parameters(model.encoder), *rates)
    run = Run(
        "decoder" if plan.alone == 1 else "autoencoder",
        folder,
        model,
        chosen,
        steps=plan.steps,
        ema_decay=plan.ema,
        cooldown=0.8,
    )
    while not run.finished:
        side = plan.sides[run.progress >= 0.5]
        images = crops.draw(plan.pixels // side**2, side, run.generator)
        alone = run.progress < plan.alone
        model.encoder.requires_grad_(not alone)
        images = images.to(device).float() / 255
        value, distance = loss(model, teacher, spread, images, run.generator, alone)
        value.backward()
        run.update()
        if run.step % plan.log_every == 0 or run.finished:
            average.load_state_dict(run.ema)
            measured = evaluate(average, teacher, held)
            run.log(loss=value.item(), batch_distance=distance.item() ** 0.5, **measured)
        if run.step % plan.save_every == 0 or run.finished:
            run.save()
            run.pause()
    average.load_state_dict(run.ema)
    return average


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--teacher", type=Path, required=True, help="folder of TAESD3's two files")
    add("--start", type=Path, help="autoencoder to begin with, instead of the teacher")
    add("--decoder-only", action="store_true", help="leave the encoder of --start as it is")
    add("--images", type=Path, required=True, help="folder of pictures")
    add("--held-out", nargs="*", default=(), help="patterns of pictures to measure on, not train")
    add("--exclude", nargs="*", default=(), help="patterns of pictures to leave out")
    add("--work", type=Path, default=Path("runs"), help="folder of state and log (runs)")
    add("--out", type=Path, default=Path("autoencoder"), help="folder for its files")
    add("--steps", type=int, default=Plan.steps)
    add("--alone", type=float, default=Plan.alone, help="part in which the decoder learns alone")
    add("--side", type=int, nargs=2, default=Plan.sides, help="of the crops, first and later")
    args = parser.parse_args(arguments)
    pictures, held_out = photos.load(args.images, args.held_out, args.exclude)
    print(f"{len(pictures)} pictures to train on, {len(held_out)} held out", flush=True)
    teacher = Autoencoder.read(args.teacher)
    model = prior.read_autoencoder(args.start or args.teacher)
    alone = 1.0 if args.decoder_only else args.alone
    plan = Plan(steps=args.steps, alone=alone, sides=tuple(args.side))
    trained = train(args.work, model, teacher, pictures, held_out, plan)
    prior.write_autoencoder(args.out, trained)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
