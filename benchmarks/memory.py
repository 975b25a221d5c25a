"""Bytes of tensors that live at the peak of decoding and its gradient, for SD3's autoencoder.

``python benchmarks/memory.py [--sizes 768 1024] [--dtype float16] [--check]``. Nothing is computed:
the tensors are fake, their storages are counted as they come and go, so that the numbers are exact
and the same on every machine. Weights (the same in every mode) are not counted, nor is what a
kernel takes for itself. ``--check`` runs one small decoding for real and compares the count with
the growth of the process's resident memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
from typing import Any

import torch
from comfyui_flowdps.priors.memory import MODES, Guidance
from counting import Counter
from torch._subclasses.fake_tensor import FakeTensorMode


def autoencoder() -> Any:
    """SD3's autoencoder with random weights."""
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return model.eval().requires_grad_(False)


def guided(model: Any, size: int, mode: str | None, dtype: torch.dtype) -> int:
    """Peak bytes of one decoding of ``size`` x ``size`` pixels; without a gradient for None."""
    z = torch.zeros(1, 16, size // 8, size // 8, dtype=dtype)
    guidance = Guidance(model, mode or "full")
    with Counter() as counter, guidance():
        if mode is None:
            with torch.no_grad():
                model.decoder(z)
        else:
            z.requires_grad_()
            x = model.decoder(z)
            torch.autograd.grad(x.float().square().sum(), z)
    return counter.peak


def count(size: int, mode: str | None, dtype: torch.dtype) -> int:
    """``guided`` with fake tensors."""
    torch.set_default_dtype(dtype)
    try:
        with FakeTensorMode():
            return guided(autoencoder(), size, mode, dtype)
    finally:
        torch.set_default_dtype(torch.float32)


def resident() -> int:
    """Largest resident memory of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[768, 1024])
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    if args.check:
        model = autoencoder()
        guided(model, 64, "full", torch.float32)
        before = resident()
        counted = guided(model, 384, "full", torch.float32)
        grown = resident() - before
        print(
            f"384 x 384 float32, full: counted {counted / 1e6:.0f} MB,"
            f" resident memory grew by {grown / 1e6:.0f} MB"
        )
    names = ["no gradient", *MODES]
    print(f"| {args.dtype}, MB | {' | '.join(names)} |")
    print(f"|---{'|---' * len(names)}|")
    for size in args.sizes:
        peaks = [count(size, mode, dtype) for mode in (None, *MODES)]
        cells = " | ".join(f"{peak / 1e6:.0f}" for peak in peaks)
        print(f"| {size} x {size} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
