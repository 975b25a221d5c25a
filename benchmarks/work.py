"""Network calls and floating-point operations of every method, for SD3 at one size.

``python -m comfyui_flowdps.benchmarks.work [--size 1024] [--steps N]``.
Calls are counted in short runs with the demo prior, operations with fake tensors of SD3 medium and
its autoencoder in float16, so that the numbers are exact and the same on every machine. A
multiplication with its addition counts as two operations. Every method runs with its own number of
noise levels, schedule and guidance, unless ``--steps`` names another number.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial

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


def denoising(size: int, mode: str, prompts: int = 2) -> int:
    """Operations of one call of the transformer with so many prompts in a memory mode."""
    model, cells = memory.transformer(), size // 8
    context, pooled = torch.zeros(prompts, 333, 4096), torch.zeros(prompts, 2048)

    def run(z: torch.Tensor) -> torch.Tensor:
        rows = z.repeat(prompts, 1, 1, 1)
        return model(rows, context, pooled, torch.zeros(prompts), return_dict=False)[0]

    with checkpointed(transformer_blocks(model), lambda: mode == "checkpointed"):
        return operations(run, 1, 16, cells, cells, gradient=mode != memory.MODES[0])


def counted(method: str, preset: str, steps: int | None = None) -> dict[str, int]:
    """Calls of a run with the final decoding and correction; ``steps``: if not the method's own."""
    prior, row = load_prior(device="cpu"), samplers.method_named(method)
    operator = recipe_for_task("sr_avgpool", 4).bind((3, 32, 32))
    problem = Measurement(torch.zeros(1, 3, 8, 8), operator, 0.03)
    work = samplers.Work(prior, problem)
    settings = samplers.preset(method, preset)
    result = samplers.sample(
        method,
        prior,
        work.measurement,
        sigmas=row.levels(settings, steps or row.steps),
        settings=settings,
        generators=[torch.Generator().manual_seed(0)],
    )
    samplers.finished(prior, result, work.measurement, settings)
    return work.counted()


def network(name: str, cfg: float) -> str:
    """The row of the table of operations for a network of a run with that guidance."""
    return "transformer, one prompt" if name == "transformer" and cfg == 1 else name


Units = dict[tuple[str, str], float]
"""Operations of one call, by network and memory mode."""


def units(size: int, modes: Sequence[str] = memory.MODES) -> Units:
    """Operations of every network in the memory modes that it has, in units of 10^12."""
    found: Units = {}
    for name, work, known in NETWORKS:
        for mode in modes:
            if mode in known:
                count = memory.count(lambda s, m, _, w=work: w(s, m), size, mode, torch.float16)
                found[name, mode] = count / TERA
    return found


def total(calls: Mapping[str, int], cfg: float, unit: Units, mode: str) -> float:
    """Operations of a run that makes these ``calls``, its gradients in ``mode``."""
    result = 0.0
    for name in ("decoder", "encoder", "transformer"):
        row, back = network(name, cfg), calls.get(f"{name} gradient", 0)
        plain = calls.get(name, 0) - back
        if back:
            result += back * unit[row, mode if (row, mode) in unit else "checkpointed"]
        if plain:
            result += plain * unit[row, memory.MODES[0]]
    return result


NETWORKS: tuple[tuple[str, Callable[[int, str], int], Sequence[str]], ...] = (
    ("decoder", decoding, memory.MODES),
    ("encoder", encoding, memory.MODES[:3]),
    ("transformer", denoising, memory.MODES[:3]),
    ("transformer, one prompt", partial(denoising, prompts=1), memory.MODES[:1]),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, help="noise levels; default: each method's own")
    args = parser.parse_args()
    unit = units(args.size)
    print(f"| {args.size} x {args.size}, TFLOP | {' | '.join(memory.MODES)} |")
    print(f"|---{'|---' * len(memory.MODES)}|")
    for name, *_ in NETWORKS:
        cells = [f"{unit[name, m]:.2f}" if (name, m) in unit else "–" for m in memory.MODES]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    columns = ("full", "checkpointed", "strips", "tiny")
    print(
        f"\n| method, preset | levels | cfg | calls, gradients of them | {' | '.join(columns)},"
        " TFLOP | of published FlowDPS |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    flowdps = samplers.METHODS["flowdps"].cfg
    reference = total(counted("flowdps", "published", args.steps), flowdps, unit, "full")
    for method, row in samplers.METHODS.items():
        for preset in row.presets:
            calls = counted(method, preset, args.steps)
            totals = [total(calls, row.cfg, unit, mode) for mode in columns]
            said = ", ".join(
                f"{name} {count}"
                + (f" ({back})" if (back := calls.get(f"{name} gradient")) else "")
                for name, count in calls.items()
                if not name.endswith("gradient")
            )
            cells = " | ".join(f"{t:.0f}" for t in totals)
            print(
                f"| {method}, {preset} | {args.steps or row.steps} | {row.cfg:g} | {said} |"
                f" {cells} | {totals[0] / reference:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
