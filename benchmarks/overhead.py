"""The cost of a run without data steps over plain Euler sampling, and of importing the pack.

``python -m comfyui_flowdps.benchmarks.overhead [--repeat 5] [--imports] [--limit 0.3]``.
The first is the ratio of two median times, measured in turns: sampling with step size 0, and the
same Euler steps written out. The second is the time that Python takes to import the library and the
command beyond PyTorch, and, if ``COMFYUI_PATH`` names a ComfyUI, the nodes beyond the host: medians
of fresh processes, in processor seconds and wall-clock seconds. ``--limit`` applies to processor
seconds, which other work on the machine disturbs less. What was imported before is kept from
Python's garbage collector: one pass over PyTorch's objects takes 0.1 s, and whether it falls into
the measured time is chance.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from .. import samplers
from ..operators import Measurement, recipe_for_task
from ..priors.diffusers import DiffusersPrior, load_prior

ROOT = Path(__file__).resolve().parents[1]
IMPORT = """
import gc, sys, time
{before}
gc.collect()
gc.freeze()
start = time.process_time(), time.perf_counter()
{module}
print(time.process_time() - start[0], time.perf_counter() - start[1])
"""
LIBRARY = """
import comfyui_flowdps.operators, comfyui_flowdps.samplers, comfyui_flowdps.cli.command
"""
HOST = """
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, {host!r})
import comfy.options
comfy.options.enable_args_parsing()
import nodes, comfy.sd, comfy.sample, comfy_api.latest, latent_preview
"""
PACK = """
import importlib.util
where = [{root!r}]
spec = importlib.util.spec_from_file_location("pack", {init!r}, submodule_search_locations=where)
pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
import pack.nodes
"""


@torch.no_grad()
def euler(prior: DiffusersPrior, z: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Plain Euler sampling of the flow."""
    for s, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        z = z + (after - s) * (z - prior.denoise(z, s)) / s
    return z


def without_pull(repeat: int, steps: int = 14, side: int = 128) -> float:
    """Time of every method with step size 0 divided by that of Euler; the largest ratio."""
    prior = load_prior(device="cpu")
    operator = recipe_for_task("sr_bicubic", 4).bind((3, side, side))
    problem = Measurement(torch.zeros(1, 3, side // 4, side // 4), operator, 0.03)
    sigmas = samplers.published_sigmas(steps)

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(0)]

    def plain() -> None:
        euler(prior, samplers.start(prior, problem, generators()), sigmas)

    def ours(method: str) -> None:
        settings = samplers.override(samplers.preset(method), step_scale=0.0)
        values = {"sigmas": sigmas, "settings": settings, "generators": generators()}
        samplers.sample(method, prior, problem, **values)

    runs = {"Euler": plain, **{m: (lambda m=m: ours(m)) for m in samplers.METHODS}}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeat + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in seconds.items()}
    for name in samplers.METHODS:
        print(f"{name} without a pull: {best[name] / best['Euler']:.3f} of Euler's time")
    return max(best[name] for name in samplers.METHODS) / best["Euler"]


def import_time(python: str, before: str, module: str, repeat: int) -> tuple[float, float]:
    """Median seconds to import ``module`` after ``before`` in fresh processes: processor, clock."""
    code = IMPORT.format(before=before, module=module)
    found = []
    for _ in range(repeat):
        run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        found.append([float(word) for word in run.stdout.splitlines()[-1].split()])
    processor, clock = zip(*found, strict=True)
    return statistics.median(processor), statistics.median(clock)


def comfyui() -> tuple[Path, str] | None:
    """The ComfyUI that ``COMFYUI_PATH`` names, and the Python that runs it."""
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return None
    folder = Path(named).expanduser()
    own = folder / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    return folder, os.environ.get("COMFYUI_PYTHON", python)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--imports", action="store_true", help="measure the imports only, without the sampling"
    )
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS", help="fail if an import takes longer"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.imports:
        without_pull(args.repeat)
    slowest, clock = import_time(sys.executable, "import torch", LIBRARY, args.repeat)
    seconds = f"{slowest:.2f} s of the processor, {clock:.2f} s by the clock"
    print(f"import of the library and the command: {seconds}, beyond torch")
    if (host := comfyui()) is None:
        print("import of the nodes: not measured, COMFYUI_PATH names no ComfyUI")
    else:
        folder, python = host
        before = HOST.format(host=str(folder))
        pack = PACK.format(init=str(ROOT / "__init__.py"), root=str(ROOT))
        processor, clock = import_time(python, before, pack, args.repeat)
        seconds = f"{processor:.2f} s of the processor, {clock:.2f} s by the clock"
        print(f"import of the nodes: {seconds}, beyond torch and the host")
        slowest = max(slowest, processor)
    if args.limit is not None and slowest > args.limit:
        print(f"more than the limit of {args.limit} s", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
