"""Train the demo prior's autoencoder: ``python -m comfyui_flowdps.training.emoji_autoencoder``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from . import emoji_data as data
from .emoji_narrow import NarrowAutoencoder
from .loop import Run, optimisers


def psnr(a: Tensor, b: Tensor) -> float:
    """Mean over the batch of the peak signal-to-noise ratio of images in [-1, 1], in dB."""
    mse = (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean((1, 2, 3))
    return float((10 * torch.log10(4 / mse)).mean())


def crops(images: Tensor, count: int, side: int, generator: torch.Generator) -> Tensor:
    """``count`` random square crops (count, C, side, side), half of them flipped."""
    n, _, height, width = images.shape
    result = []
    for _ in range(count):
        i = int(torch.randint(n, (), generator=generator))
        # Multiples of 4 keep the area filter's grid varied without costing anything.
        y = int(torch.randint((height - side) // 4 + 1, (), generator=generator)) * 4
        x = int(torch.randint((width - side) // 4 + 1, (), generator=generator)) * 4
        crop = images[i, :, y : y + side, x : x + side]
        result.append(crop.flip(-1) if torch.rand((), generator=generator) < 0.5 else crop)
    return torch.stack(result)


def loss(model: NarrowAutoencoder, images: Tensor, generator: torch.Generator) -> Tensor:
    """Log of the squared error (so, PSNR), a little L1, and latents of zero mean, unit variance.

    Noise on the latents keeps the decoder smooth, which gradient descent through it relies on.
    """
    with torch.autocast("cpu", torch.bfloat16):
        latents = model.encode(images)
        z = latents.float()
        level = 0.12 * torch.rand(len(z), 1, 1, 1, generator=generator).square()
        noisy = z + level * torch.randn(z.shape, generator=generator)
        decoded = model.decode(noisy)
    error = decoded.float() - images
    mse = error.square().mean((1, 2, 3))
    moments = z.mean((0, 2, 3)).square().mean() + (z.var((0, 2, 3)).sqrt() - 1).square().mean()
    return torch.log(mse + 3e-4).mean() * 0.2 + error.abs().mean() + 0.02 * moments


def parameters(model: NarrowAutoencoder) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Inner convolution kernels (for Muon) and the rest."""
    inner = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[:2]) > 16]
    chosen = {id(p) for p in inner}
    return inner, [p for p in model.parameters() if id(p) not in chosen]


@torch.no_grad()
def evaluate(state: dict[str, Tensor], held: Tensor) -> tuple[float, float]:
    """PSNR on held-out images and the spread of the latents."""
    model = NarrowAutoencoder().eval()
    model.load_state_dict(state)
    z = model.encode(held)
    return psnr(model.decode(z), held), float(z.std())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--minutes", type=float, default=25)
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    emoji = data.load(data.download(args.data))
    train, held_groups = data.split(emoji)
    rgba = torch.stack([item.rgba for item in emoji])
    fixed = torch.Generator().manual_seed(1)
    held = rgba[[group[0] for group in held_groups[:48]]]
    held = data.on_background(held, data.random_colours(len(held), fixed))
    model = NarrowAutoencoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(
        "autoencoder",
        args.out,
        model,
        optimisers(*parameters(model), 0.02, 2e-3),
        minutes=args.minutes,
    )
    pool = rgba[train]
    while not run.finished:
        count, side = (32, 32) if run.progress < 0.5 else (12, 64)
        patches = crops(pool, count, side, run.generator)
        colours = data.random_colours(count, run.generator)
        images = data.colour_augment(data.on_background(patches, colours), run.generator)
        images = images.contiguous(memory_format=torch.channels_last)
        value = loss(model, images, run.generator)
        value.backward()
        run.update()
        if run.step % 200 == 0:
            quality, spread = evaluate(run.ema, held)
            run.log(loss=value.item(), psnr=quality, latent_std=spread)
            run.save()
            run.pause()
    run.save()
    print(f"held-out PSNR {evaluate(run.ema, held)[0]:.2f} dB")


if __name__ == "__main__":
    main()
