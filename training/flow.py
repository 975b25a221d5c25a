"""Train the flow of a prior for photographs, on latents of a finished autoencoder.

``python -m comfyui_flowdps.training --images FOLDER`` does it all; see ``docs/training.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .latents import Shards, encode
from .loop import Run, optimisers
from .photos import Photo, fixed_crops
from .taesd import LATENT_CHANNELS, STRIDE, Autoencoder
from .wiener import Wiener

CONTEXT_WIDTH, POOLED_WIDTH = 64, 32
HEAD, PATCH = 64, 2
POSITIONS = 64
"""Tokens a side that the position table covers: images of up to 1024 pixels."""
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""Noise levels σ at which held-out crops are denoised for the log."""

FINE_TUNING = 0.25
"""Factor of the learning rates where a trained flow is the beginning."""


@dataclass(frozen=True)
class Plan:
    """What is trained, for how long, and how often it is looked at.

    ``side`` is that of most training crops and ``cells`` the size of a batch, in latent cells:
    16,384 are 64 crops of 128 x 128 pixels. The first ``first_shards`` shards of ``windows``
    windows are made before the first step, and one more every ``shard_every`` steps until there
    are ``shards``. ``log_every`` is a multiple of ``save_every``; an interruption costs no more
    than the steps since the last save.
    """

    steps: int | None = None
    minutes: float | None = None
    layers: int = 4
    side: int = 16
    cells: int = 16_384
    windows: int = 50
    first_shards: int = 4
    shards: int = 120
    shard_every: int = 100
    save_every: int = 50
    log_every: int = 200
    held_out: int = 128
    muon: float = 0.02
    adam: float = 1e-3
    ema: float = 0.9995
    cooldown: float = 0.3


def network(layers: int) -> nn.Module:
    """diffusers' SD3 transformer, 64 x ``layers`` wide; modulations and output start at zero."""
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=POSITIONS * PATCH,
        patch_size=PATCH,
        in_channels=LATENT_CHANNELS,
        num_layers=layers,
        attention_head_dim=HEAD,
        num_attention_heads=layers,
        joint_attention_dim=CONTEXT_WIDTH,
        caption_projection_dim=layers * HEAD,
        pooled_projection_dim=POOLED_WIDTH,
        out_channels=LATENT_CHANNELS,
        pos_embed_max_size=POSITIONS,
        qk_norm="rms_norm",
    )
    zero = ("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.0 if name.endswith(zero) else 0.02)
            nn.init.zeros_(module.bias)
    return model


def depth(state: Mapping[str, Tensor]) -> int:
    """Number of layers of a network, from its state."""
    return 1 + max(int(k.split(".")[1]) for k in state if k.startswith("transformer_blocks."))


def velocity(model: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
    """Velocity ε - z0 at ``x`` (N, 16, h, w) and ``sigma`` (N,), conditioned on one zero token."""
    return model(
        hidden_states=x,
        encoder_hidden_states=x.new_zeros(len(x), 1, CONTEXT_WIDTH),
        pooled_projections=x.new_zeros(len(x), POOLED_WIDTH),
        timestep=sigma * 1000,
        return_dict=False,
    )[0]


def parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Inner matrices of the image's stream (for Muon) and the rest (for AdamW).

    The context's stream sees one constant token: orthogonal updates would only cost time there.
    """
    names = (".attn.to_", ".ff.net.")
    inner = [
        p
        for name, p in model.named_parameters()
        if p.ndim == 2 and any(part in name for part in names) and ".to_add_out." not in name
    ]
    chosen = {id(p) for p in inner}
    return inner, [p for p in model.parameters() if id(p) not in chosen]


def times(count: int, generator: torch.Generator) -> Tensor:
    """σ (count,) for training: 65 % logit-normal(-0.9, 0.9), 35 % uniform, evenly over a batch.

    Restoration happens below σ = 0.5; the uniform part teaches the ends too. Each of ``count``
    equal parts of the distribution gives one σ, so that batches differ less.
    """
    draw = torch.rand(count, generator=generator, dtype=torch.float64)
    share = (torch.arange(count) + draw) / count
    normal = torch.sigmoid(-0.9 + 0.9 * torch.special.ndtri((share / 0.65).clamp(1e-6, 1 - 1e-6)))
    return torch.where(share < 0.65, normal, (share - 0.65) / 0.35).float()


def flow_loss(model: nn.Module, z0: Tensor, generator: torch.Generator) -> Tensor:
    """Rectified-flow loss of latents (N, 16, h, w): mean of (v(x, σ) - (ε - z0))²."""
    sigma = times(len(z0), generator).to(z0.device)
    noise = torch.randn(z0.shape, generator=generator).to(z0.device)
    s = sigma[:, None, None, None]
    with torch.autocast(z0.device.type, torch.bfloat16, enabled=z0.is_cuda):
        v = velocity(model, s * noise + (1 - s) * z0, sigma)
    return (v.float() - (noise - z0)).square().mean()


class HeldOut:
    """Crops (N, 16, h, w) that do not train, and the squared errors of the Wiener filter there.

    ``gains`` tells by how many dB a flow denoises them better. Noise is the same every time.
    """

    def __init__(self, crops: Tensor, wiener: Wiener):
        self.crops = crops
        generator = torch.Generator().manual_seed(7)
        self.noise = torch.randn(crops.shape, generator=generator)
        self.wiener = [
            float((wiener.denoise(self._noisy(s), s) - crops).square().mean()) for s in LEVELS
        ]

    def _noisy(self, sigma: float) -> Tensor:
        return (1 - sigma) * self.crops + sigma * self.noise

    @torch.no_grad()
    def errors(self, model: nn.Module) -> list[float]:
        """Mean squared error of the flow's estimate of z0 at each of ``LEVELS``."""
        device = next(model.parameters()).device
        result = []
        for sigma in LEVELS:
            total = 0.0
            for x, z0 in zip(self._noisy(sigma).split(64), self.crops.split(64), strict=True):
                x = x.to(device)
                v = velocity(model, x, torch.full((len(x),), sigma, device=device))
                total += float((x - sigma * v - z0.to(device)).square().sum())
            result.append(total / self.crops.numel())
        return result

    def report(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """By noise level: velocity loss (squared error over σ²), and dB below the Wiener filter."""
        loss, gain = {}, {}
        for sigma, error, linear in zip(LEVELS, self.errors(model), self.wiener, strict=True):
            loss[str(sigma)] = error / sigma**2
            gain[str(sigma)] = 10 * math.log10(linear / error)
        return {"loss": loss, "gain": gain}


def baseline(path: Path, shards: Shards, count: int) -> Wiener:
    """The Wiener filter of ``count`` training crops, kept in ``path``: it takes a minute or so."""
    if path.exists():
        saved = torch.load(path, weights_only=True)
        return Wiener(saved["mean"], saved["values"], saved["vectors"])
    crops = shards.draw(count, (shards.side, shards.side), torch.Generator().manual_seed(3))
    wiener = Wiener.fit(crops)
    torch.save({"mean": wiener.mean, "values": wiener.values, "vectors": wiener.vectors}, path)
    return wiener


def train(
    folder: Path,
    autoencoder: Autoencoder,
    photos: Sequence[Photo],
    held_out: Sequence[Photo],
    plan: Plan,
    start: nn.Module | None = None,
) -> nn.Module:
    """Train a flow and return its moving average; an interrupted run in ``folder`` goes on.

    It begins with the weights of ``start`` (a gentler training by ``FINE_TUNING``) or with none.

    ``folder`` gets the shards of latents, ``flow.pt`` (the state) and ``flow.log.jsonl``: the
    training loss, and for the held-out crops the loss and the gain over Wiener by noise level.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    autoencoder = autoencoder.requires_grad_(False).to(device)
    shards = Shards(folder / "latents", autoencoder, photos, plan.windows, plan.side)
    print(f"encoding {plan.first_shards * plan.windows} windows of photographs ...", flush=True)
    shards.grow(plan.first_shards)
    crops = fixed_crops(held_out, plan.side * STRIDE, plan.held_out)
    crops = torch.stack([encode(autoencoder, crop) for crop in crops]).float()
    wiener = baseline(folder / "wiener.pt", shards, 16 * len(shards.latents))
    held = HeldOut(crops, wiener)
    layers = plan.layers if start is None else depth(start.state_dict())
    model = network(layers).to(device)
    factor = 1.0
    if start is not None:
        model.load_state_dict(start.state_dict())
        factor = FINE_TUNING
    run = Run(
        "flow",
        folder,
        model,
        optimisers(*parameters(model), factor * plan.muon, factor * plan.adam),
        steps=plan.steps,
        minutes=plan.minutes,
        ema_decay=plan.ema,
        cooldown=plan.cooldown,
    )
    average = network(layers).to(device).eval()
    losses: list[float] = []
    run.pause()
    while not run.finished:
        wanted = min(plan.shards, plan.first_shards + run.step // plan.shard_every)
        if wanted > shards.count:
            shards.grow(wanted)
            run.pause()
        z0 = shards.batch(plan.cells, run.generator).to(device)
        value = flow_loss(model, z0, run.generator)
        value.backward()
        run.update()
        losses.append(value.item())
        if run.step % plan.log_every == 0 or run.finished:
            average.load_state_dict(run.ema)
            run.log(train=sum(losses) / len(losses), **held.report(average))
            losses.clear()
        if run.step % plan.save_every == 0 or run.finished:
            run.save()
            run.pause()
    average.load_state_dict(run.ema)
    return average


def read(folder: Path) -> nn.Module:
    """The moving average of a run in ``folder``, finished or not."""
    path = folder / "flow.pt"
    if not path.exists():
        raise ValueError(f"no training has been saved in {folder}")
    state = torch.load(path, weights_only=True, map_location="cpu")["ema"]
    model = network(depth(state))
    model.load_state_dict(state)
    return model
