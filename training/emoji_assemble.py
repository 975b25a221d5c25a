"""Write the trained demo prior as one file, and the held-out pictures.

``python -m comfyui_flowdps.training.emoji_assemble``, after both trainings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

from . import emoji_data as data
from .emoji_flow import network
from .emoji_narrow import NarrowAutoencoder, embed
from .export import transformer_state

ROOT = Path(__file__).resolve().parent.parent
SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609
TUNE, TEST = 16, 48
RUDE = {"1f595"}
"""Held out, but not among the pictures that the repository shows."""


def checkpoint(runs: Path) -> dict[str, torch.Tensor]:
    """State dict in the layout of SD3's single files, float16, with TAESD as its autoencoder."""
    saved = torch.load(runs / "flow.pt", weights_only=True)
    transformer = network()
    transformer.load_state_dict(saved["ema"])
    autoencoder = NarrowAutoencoder()
    autoencoder.load_state_dict(torch.load(runs / "autoencoder.pt", weights_only=True)["ema"])
    scale = torch.load(runs / "scale.pt", weights_only=True)["scale"]
    state = {f"model.diffusion_model.{k}": v for k, v in transformer_state(transformer).items()}
    state |= {f"first_stage_model.{k}": v for k, v in embed(autoencoder).items()}
    # Hosts map SD3's raw latents by (raw - vae_shift) * vae_scale to what the autoencoder speaks.
    # The scale makes the flow's own latents have unit variance.
    state["first_stage_model.vae_scale"] = torch.tensor(SD3_SCALE * scale)
    state["first_stage_model.vae_shift"] = torch.tensor(SD3_SHIFT)
    kept = ("vae_scale", "vae_shift")
    return {k: v.float() if k.endswith(kept) else v.half().contiguous() for k, v in state.items()}


def held_out(assets: Path, folder: Path) -> None:
    """One picture per held-out group: 16 for tuning, 48 for testing, on white or soft colours."""
    emoji = data.load(assets)
    _, groups = data.split(emoji)
    colours = data.random_colours(TUNE + TEST, torch.Generator().manual_seed(3), white=0.5)
    polite = [group for group in groups if data.base_key(emoji[group[0]].code) not in RUDE]
    for k, group in enumerate(polite[: TUNE + TEST]):
        item = emoji[group[0]]
        image = data.on_background(item.rgba[None], colours[k : k + 1])[0]
        pixels = ((image.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
        place = folder / ("tune" if k < TUNE else "test")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{item.code}.png", optimize=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=ROOT / "priors" / "demo_prior.safetensors")
    parser.add_argument("--held-out", type=Path, default=ROOT / "benchmarks" / "pictures")
    args = parser.parse_args(arguments)
    save_file(
        checkpoint(args.runs),
        args.out,
        metadata={"modelspec.title": "FlowDPS demo prior", "modelspec.license": "MIT"},
    )
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
    held_out(data.download(args.data), args.held_out)


if __name__ == "__main__":
    main()
