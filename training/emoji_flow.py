"""Train the demo flow, after the autoencoder: ``python -m comfyui_flowdps.training.emoji_flow``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import emoji_data as data
from .emoji_narrow import LATENT_CHANNELS, NarrowAutoencoder
from .loop import Run, optimisers

CONTEXT_WIDTH, POOLED_WIDTH = 64, 32
LAYERS, HEAD = 3, 64
PATCH = 1
"""One token per latent cell (SD3 has four): the images are small, and detail is what restores."""
POSITIONS = 96
# Canvas in pixels -> pictures in the pool. A few canvases of other shapes keep positions beyond the
# usual 16 x 16 cells trained, for rectangular and larger images.
POOLS = {(128, 128): 9000, (96, 160): 300, (160, 96): 300, (192, 192): 300}
OTHER_SHAPES = 0.08


def network():
    """diffusers' SD3 transformer, with modulations and output starting at zero."""
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=POSITIONS * PATCH,
        patch_size=PATCH,
        in_channels=LATENT_CHANNELS,
        num_layers=LAYERS,
        attention_head_dim=HEAD,
        num_attention_heads=LAYERS,
        joint_attention_dim=CONTEXT_WIDTH,
        caption_projection_dim=LAYERS * HEAD,
        pooled_projection_dim=POOLED_WIDTH,
        out_channels=LATENT_CHANNELS,
        pos_embed_max_size=POSITIONS,
        qk_norm="rms_norm",
    )
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
            if name.endswith(
                ("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out")
            ):
                nn.init.zeros_(module.weight)
    return model


def velocity(model: nn.Module, z: Tensor, sigma: Tensor) -> Tensor:
    """Velocity at ``z`` (N, 16, h, w), ``sigma`` (N,), conditioned on one zero token."""
    return model(
        hidden_states=z,
        encoder_hidden_states=z.new_zeros(len(z), 1, CONTEXT_WIDTH),
        pooled_projections=z.new_zeros(len(z), POOLED_WIDTH),
        timestep=sigma * 1000,
        return_dict=False,
    )[0]


def _place(rgba: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Scale, shift and flip one premultiplied picture onto a canvas (4, height, width)."""
    draw = torch.rand(4, generator=generator)
    centred = bool(draw[0] < 0.6) and (height, width) == rgba.shape[1:]
    if centred:
        placed = rgba.float()
    else:
        scale = 0.55 + 0.55 * draw[1]
        shift = (torch.rand(2, generator=generator) * 2 - 1) * (1.05 - 0.6 * scale).clamp(0.05)
        side = float(data.SIZE)
        theta = torch.tensor(
            [
                [width / side / scale, 0, -shift[0] * width / side / scale],
                [0, height / side / scale, -shift[1] * height / side / scale],
            ]
        )
        grid = F.affine_grid(theta[None], [1, 4, height, width], align_corners=False)
        placed = F.grid_sample(rgba[None].float(), grid, mode="bilinear", align_corners=False)[0]
    return placed.flip(-1) if draw[2] < 0.5 else placed


def canvases(
    pool: Tensor, count: int, height: int, width: int, generator: torch.Generator
) -> Tensor:
    """``count`` augmented training images (count, 3, height, width) in [-1, 1]."""
    layers = []
    crowded = (height, width) != tuple(pool.shape[2:])
    for _ in range(count):
        canvas = torch.zeros(4, height, width)
        extra = int(torch.randint(4, (), generator=generator)) if crowded else 0
        for _ in range(1 + extra):
            index = int(torch.randint(len(pool), (), generator=generator))
            top = _place(pool[index], height, width, generator)
            canvas = top + canvas * (1 - top[3:] / 255)
        layers.append(canvas)
    colours = data.random_colours(count, generator)
    images = data.on_background(torch.stack(layers), colours)
    return data.colour_augment(images, generator)


@torch.no_grad()
def latents(autoencoder: NarrowAutoencoder, images: Tensor, scale: float) -> Tensor:
    """Unit-variance latents of ``images``."""
    with torch.autocast("cpu", torch.bfloat16):
        z = autoencoder.encode(images.contiguous(memory_format=torch.channels_last))
    return z.float() / scale


class Pool:
    """Cached latents of augmented pictures, renewed little by little while the flow trains."""

    def __init__(self, autoencoder: NarrowAutoencoder, rgba: Tensor, scale: float, seed: int):
        self.autoencoder, self.rgba, self.scale = autoencoder, rgba, scale
        self.generator = torch.Generator().manual_seed(seed)
        self.cache = {shape: self._make(count, shape) for shape, count in POOLS.items()}
        self.next = 0

    def _make(self, count: int, shape: tuple[int, int]) -> Tensor:
        made = []
        for start in range(0, count, 50):
            images = canvases(self.rgba, min(50, count - start), *shape, self.generator)
            made.append(latents(self.autoencoder, images, self.scale))
        return torch.cat(made)

    def renew(self, count: int) -> None:
        """Replace the oldest ``count`` square pictures."""
        shape = (data.SIZE, data.SIZE)
        bank = self.cache[shape]
        where = (torch.arange(count) + self.next) % len(bank)
        bank[where] = self._make(count, shape)
        self.next = int(where[-1]) + 1

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """A batch of one shape."""
        shape = (data.SIZE, data.SIZE)
        if torch.rand((), generator=generator) < OTHER_SHAPES:
            others = [s for s in POOLS if s != shape]
            shape = others[int(torch.randint(len(others), (), generator=generator))]
        bank = self.cache[shape]
        return bank[torch.randint(len(bank), (count,), generator=generator)]


def times(count: int, generator: torch.Generator) -> Tensor:
    """σ for training: 70 % logit-normal(0.2, 1), 30 % uniform, so that the ends are learnt too."""
    normal = torch.sigmoid(0.2 + torch.randn(count, generator=generator))
    uniform = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.7, normal, uniform)


def flow_loss(model: nn.Module, z0: Tensor, generator: torch.Generator) -> Tensor:
    """Rectified-flow loss of a batch of latents, ‖v_θ(z_σ, σ) − (ε − z0)‖² per element."""
    sigma = times(len(z0), generator)
    noise = torch.randn(z0.shape, generator=generator)
    s = sigma[:, None, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        v = velocity(model, s * noise + (1 - s) * z0, sigma)
    return (v.float() - (noise - z0)).square().mean()


@torch.no_grad()
def held_out_loss(state: dict[str, Tensor], z0: Tensor) -> float:
    """The same loss on held-out latents with the same times and noise every time."""
    model = network()
    model.load_state_dict(state)
    generator = torch.Generator().manual_seed(5)
    return sum(float(flow_loss(model, part, generator)) for part in z0.split(30)) / len(
        z0.split(30)
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    emoji = data.load(data.download(args.data))
    train, held_groups = data.split(emoji)
    rgba = torch.stack([item.rgba for item in emoji])
    autoencoder = NarrowAutoencoder().eval()
    autoencoder.load_state_dict(torch.load(args.out / "autoencoder.pt", weights_only=True)["ema"])
    autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sample = canvases(rgba[train], 200, data.SIZE, data.SIZE, torch.Generator().manual_seed(2))
    scale = float(latents(autoencoder, sample, 1.0).std())
    torch.save({"scale": scale}, args.out / "scale.pt")
    held = rgba[[group[0] for group in held_groups]]
    colours = data.random_colours(len(held), torch.Generator().manual_seed(1))
    held = latents(autoencoder, data.on_background(held, colours), scale)

    model = network()
    inner = [
        p for n, p in model.named_parameters() if p.ndim == 2 and (".attn." in n or ".ff" in n)
    ]
    chosen = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    run = Run(
        "flow",
        args.out,
        model,
        optimisers(inner, rest, 0.02, 1e-3),
        minutes=args.minutes,
        ema_decay=0.9993,
    )
    pool = Pool(autoencoder, rgba[train], scale, seed=run.step + 10)
    print(f"latent scale {scale:.4f}, pool ready", flush=True)
    run.pause()
    while not run.finished:
        value = flow_loss(model, pool.draw(args.batch, run.generator), run.generator)
        value.backward()
        run.update()
        if run.step % 4 == 0:
            pool.renew(8)
        if run.step % 250 == 0:
            run.log(loss=value.item(), held_out=held_out_loss(run.ema, held))
            run.save()
            run.pause()
    run.save()
    print(f"held-out loss {held_out_loss(run.ema, held):.4f}")


if __name__ == "__main__":
    main()
