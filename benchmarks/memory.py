"""Peak bytes of tensors during a pass with or without gradient, for SD3's networks.

``python -m comfyui_flowdps.benchmarks.memory [--sizes 768 1024 2048] [--dtype float16] [--check]``.
Nothing is computed: the tensors are on the device meta, where their storages are counted as they
come and go, so that the numbers are exact and the same on every machine. Weights (the same in every
mode) are not counted, nor is what a kernel takes for itself. ``--check`` runs one small decoding
for real and compares the count with the growth of the process's resident memory.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ..priors.gradients.checkpointing import checkpointed, encoder_blocks, transformer_blocks
from ..priors.gradients.modes import DecoderGradient
from ..priors.gradients.normalised_strips import STRIP_BYTES, run
from ..priors.gradients.stages import encoder_stages_of, stages_of
from .counting import Counter

MODES = ("no gradient", "full", "checkpointed", "strips", "tiny")


def autoencoder() -> Any:
    """SD3's autoencoder with random weights."""
    from diffusers import AutoencoderKL

    # Diffusers annotates tuples of length one, but accepts tuples of any length.
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    model = AutoencoderKL(**settings)
    return model.eval().requires_grad_(False)


def tiny() -> Any:
    """TAESD, the tiny autoencoder, with random weights."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(latent_channels=16).eval().requires_grad_(False)


def transformer() -> Any:
    """SD3 medium's transformer with random weights."""
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=128,
        num_layers=24,
        num_attention_heads=24,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        pooled_projection_dim=2048,
        pos_embed_max_size=192,
    )
    return model.eval().requires_grad_(False)


def peak(
    model: torch.nn.Module,
    function: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    gradient: bool,
) -> int:
    """Peak bytes of ``function`` at x and, with ``gradient``, of the gradient of a norm of it.

    The weights of ``model`` are not counted.
    """
    with Counter(model.parameters()) as counter, torch.set_grad_enabled(gradient):
        x = x.clone().requires_grad_(gradient)
        y = function(x)
        if gradient:
            torch.autograd.grad(y.float().square().sum(), x)
    return counter.peak


def decoding(size: int, mode: str, dtype: torch.dtype, model: Any = None) -> int:
    """Peak bytes of one decoding of ``size`` x ``size`` pixels in a memory mode."""
    model = model or (tiny() if mode == "tiny" else autoencoder())
    z = torch.zeros(1, 16, size // 8, size // 8, dtype=dtype)
    decoder_gradient = DecoderGradient(model, {"tiny": "strips", MODES[0]: "full"}.get(mode, mode))
    with decoder_gradient():
        return peak(model, lambda z: model.decode(z, return_dict=False)[0], z, mode != MODES[0])


def encoding(size: int, mode: str, dtype: torch.dtype) -> int:
    """Peak bytes of one encoding, as PSLD's gluing term needs it."""
    encoder = autoencoder().encoder
    with checkpointed(encoder_blocks(encoder), lambda: mode == "checkpointed"):
        return peak(encoder, encoder, torch.zeros(1, 3, size, size, dtype=dtype), mode != MODES[0])


def denoising(size: int, mode: str, dtype: torch.dtype, prompts: int = 2) -> int:
    """Peak bytes of one transformer pass, all prompts in one batch."""
    model = transformer()
    context = torch.zeros(prompts, 333, 4096, dtype=dtype)
    pooled, time = torch.zeros(prompts, 2048, dtype=dtype), torch.zeros(prompts)

    def run(z: torch.Tensor) -> torch.Tensor:
        return model(z.repeat(prompts, 1, 1, 1), context, pooled, time, return_dict=False)[0]

    with checkpointed(transformer_blocks(model), lambda: mode == "checkpointed"):
        return peak(
            model, run, torch.zeros(1, 16, size // 8, size // 8, dtype=dtype), mode != MODES[0]
        )


def in_strips(side: str, size: int, dtype: torch.dtype, strip_bytes: int = STRIP_BYTES) -> int:
    """Peak bytes of a pass of ``decoder`` or ``encoder`` without gradient, in strips."""
    model = autoencoder()
    if side == "decoder":
        stages, x = stages_of(model.decoder), torch.zeros(1, 16, size // 8, size // 8, dtype=dtype)
    else:
        stages, x = encoder_stages_of(model.encoder), torch.zeros(1, 3, size, size, dtype=dtype)
    return peak(model, lambda x: run(stages or [], x, strip_bytes), x, False)


def without_gradient(size: int, mode: str, dtype: torch.dtype) -> int:
    """Peak bytes of the networks in a run without gradients and guidance, such as ``refine``.

    mode: ``no gradient`` for plain passes, or ``strips``. It is the largest of its passes; the run
    keeps a few images of 12 bytes a pixel besides.
    """
    if mode == MODES[0]:
        both = decoding(size, mode, dtype), encoding(size, mode, dtype)
    else:
        both = in_strips("decoder", size, dtype), in_strips("encoder", size, dtype)
    return max(*both, denoising(size, MODES[0], dtype, prompts=1))


@contextlib.contextmanager
def flash_attention() -> Iterator[None]:
    """Attention as a CPU does it, which keeps no matrix of all pairs; meta tensors would do it by
    one."""
    usual = F.scaled_dot_product_attention
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
        return flash(q, k, v)[0] if q.ndim == 4 else usual(q, k, v, **options)

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = usual


def count(work: Callable[..., int], size: int, mode: str, dtype: torch.dtype) -> int:
    """``work`` with tensors that have storages of a size and nothing in them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"), flash_attention():
            return work(size, mode, dtype)
    finally:
        torch.set_default_dtype(before)


def resident() -> int:
    """Largest resident memory of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def check() -> str:
    """The count of one decoding beside the growth of resident memory."""
    model = autoencoder()
    decoding(64, "full", torch.float32, model)
    before = resident()
    counted = decoding(384, "full", torch.float32, model)
    grown = resident() - before
    return (
        f"384 x 384 float32, full: counted {counted / 1e6:.0f} MB,"
        f" resident memory grew by {grown / 1e6:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[768, 1024, 2048])
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    if args.check:
        print(check())
    print(f"| {args.dtype}, MB | {' | '.join(MODES)} |")
    print(f"|---{'|---' * len(MODES)}|")
    for name, work, modes in (
        ("decoder", decoding, MODES),
        ("encoder (PSLD)", encoding, MODES[:3]),
        ("transformer (PSLD)", denoising, MODES[:3]),
        ("run of refine", without_gradient, (MODES[0], "strips")),
    ):
        for size in args.sizes:
            peaks = [count(work, size, mode, dtype) if mode in modes else None for mode in MODES]
            cells = " | ".join("–" if p is None else f"{p / 1e6:.0f}" for p in peaks)
            print(f"| {name}, {size} x {size} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
