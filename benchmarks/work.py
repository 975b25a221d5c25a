"""Network calls and floating-point operations of every method, for SD3 at one size.

``python -m comfyui_flowdps.benchmarks.work [--size 1024] [--steps 28]``.
Calls are counted in short runs with the demo prior, operations with fake tensors of SD3 medium and
its autoencoder in float16, so that the numbers are exact and the same on every machine. A
multiplication with its addition counts as two operations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import samplers
from ..operators import Measurement, recipe_for_task
from ..priors.diffusers import load_prior
from ..priors.gradients.checkpointing import checkpointed, encoder_blocks, transformer_blocks
from ..priors.gradients.modes import DecoderGradient
from . import memory
from .counting import Operations

TERA = 1e12


def operations(function: Callable[[torch.Tensor], torch.Tensor], *shape: int, gradient: bool):
    """Operations of ``function`` on zeros of ``shape`` and, with ``gradient``, of its gradient."""
    x = torch.zeros(shape).requires_grad_(gradient)
    # The counter knows only the plain implementation of attention.
    with Operations() as counter, sdpa_kernel(SDPBackend.MATH):
        y = function(x)
        if gradient:
            torch.autograd.grad(y.sum(), x)
    return counter.total


def decoding(size: int, mode: str) -> int:
    """Operations of one decoding in a memory mode, with its gradient unless the mode is none."""
    model = memory.tiny() if mode == "tiny" else memory.autoencoder()
    decoder_gradient = DecoderGradient(
        model, {"tiny": "strips", memory.MODES[0]: "full"}.get(mode, mode)
    )
    cells = size // 8
    with decoder_gradient():
        return operations(
            lambda z: model.decode(z, return_dict=False)[0],
            *(1, 16, cells, cells),
            gradient=mode != memory.MODES[0],
        )


def encoding(size: int, mode: str) -> int:
    """Operations of one encoding in a memory mode."""
    encoder = memory.autoencoder().encoder
    with checkpointed(encoder_blocks(encoder), lambda: mode == "checkpointed"):
        return operations(encoder, 1, 3, size, size, gradient=mode != memory.MODES[0])


def denoising(size: int, mode: str) -> int:
    """Operations of one call of the transformer with both prompts in a memory mode."""
    model, cells = memory.transformer(), size // 8
    context, pooled = torch.zeros(2, 333, 4096), torch.zeros(2, 2048)

    def run(z: torch.Tensor) -> torch.Tensor:
        both = z.repeat(2, 1, 1, 1)
        return model(both, context, pooled, torch.zeros(2), return_dict=False)[0]

    with checkpointed(transformer_blocks(model), lambda: mode == "checkpointed"):
        return operations(run, 1, 16, cells, cells, gradient=mode != memory.MODES[0])


def counted(method: str, preset: str, steps: int) -> dict[str, int]:
    """Calls of a run with so many noise levels, with the final decoding and correction."""
    prior = load_prior(device="cpu")
    operator = recipe_for_task("sr_avgpool", 4).bind((3, 32, 32))
    problem = Measurement(torch.zeros(1, 3, 8, 8), operator, 0.03)
    work = samplers.Work(prior, problem)
    settings = samplers.preset(method, preset)
    result = samplers.sample(
        method,
        prior,
        work.measurement,
        sigmas=samplers.METHODS[method].levels(settings, steps),
        settings=settings,
        generators=[torch.Generator().manual_seed(0)],
    )
    samplers.finished(prior, result, work.measurement, settings)
    return work.counted()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, help="default: each method's")
    args = parser.parse_args()
    unit: dict[tuple[str, str], float] = {}
    print(f"| {args.size} x {args.size}, TFLOP | {' | '.join(memory.MODES)} |")
    print(f"|---{'|---' * len(memory.MODES)}|")
    for name, work, modes in (
        ("decoder", decoding, memory.MODES),
        ("encoder", encoding, memory.MODES[:3]),
        ("transformer", denoising, memory.MODES[:3]),
    ):
        for mode in modes:
            found = memory.count(lambda s, m, _, w=work: w(s, m), args.size, mode, torch.float16)
            unit[name, mode] = found / TERA
        cells = [f"{unit[name, m]:.2f}" if (name, m) in unit else "–" for m in memory.MODES]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    columns = ("full", "checkpointed", "strips", "tiny")
    title = f"{args.steps or 'default'} levels"
    print(f"\n| {title} | calls, gradients of them | {' | '.join(columns)}, TFLOP |")
    print("|---|---|---|---|---|---|")
    for method, row in samplers.METHODS.items():
        for preset in row.presets:
            calls = counted(method, preset, args.steps or row.steps)
            cells = []
            for mode in columns:
                total = 0.0
                for name in ("decoder", "encoder", "transformer"):
                    back = calls.get(f"{name} gradient", 0)
                    kept = mode if (name, mode) in unit else "checkpointed"
                    total += back * unit[name, kept]
                    total += (calls.get(name, 0) - back) * unit[name, memory.MODES[0]]
                cells.append(f"{total:.0f}")
            said = ", ".join(
                f"{name} {count}"
                + (f" ({back})" if (back := calls.get(f"{name} gradient")) else "")
                for name, count in calls.items()
                if not name.endswith("gradient")
            )
            print(f"| {method}, {preset} | {said} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
