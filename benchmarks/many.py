"""The cost per photo of many, and runs on a Ray cluster whose workers are killed.

``python -m comfyui_flowdps.benchmarks.many [--counts 100 1000 10000] [--side 16]`` restores so many
pictures with a prior that costs nothing, runs again when all are finished, and again when every
tenth is missing: seconds of the processor and by the clock per photo, and the most memory. Every
run is a process of its own.

``python -m comfyui_flowdps.benchmarks.many --batches`` restores eight pictures with the demo prior
in batches of 1, 2, 4 and 8: processor seconds, how much the results differ from those alone, and
whether a result has the same bits among any others in a batch of that number.

``python -m comfyui_flowdps.benchmarks.many --kills 50 --workers 3`` restores pictures on a local
Ray cluster while workers are killed at random instants, and compares the results with those of a
plain run: every file to the bit, and every line of the log. With ``--nodes 3``, whole nodes of a
cluster of so many are killed and replaced; they are processes of this machine. With ``--deadly``,
one of the photos kills every worker that restores it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..operators import recipe_for_task
from ..priors.diffusers import load_prior
from ..restoration.images import read_image
from ..restoration.pipeline import Request, prepare, resize, restore
from ..samplers import preset
from . import attack
from .command import HELD_OUT

QUICK = ("--task", "identity", "--observed", "--method", "flowchef", "--steps", "1")
"""Hardly any work for the model, so that what is measured is all the rest."""
SEEN = (*QUICK[:3], "--method", "refine", "--preset", "fast", "--steps", "1")
"""The same, where the model is shown the photo."""
PACKAGE = (__package__ or "").partition(".")[0]
WORKER = "ray::Worker"
"""How the command line of a worker's process begins, also while it loads the model."""


def pictures(folder: Path, count: int, side: int) -> Path:
    """``count`` different pictures of ``side`` pixels."""
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    for k in range(count):
        x = drawn.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        picture = Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{k:05}.png")
    return folder


def still(_: object) -> attack.Still:
    """The prior that costs nothing; workers find it by this name."""
    return attack.Still()


class Deadly(attack.Still):
    """Kills its process over a white photo."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if bool((x.mean((1, 2, 3)) > 0.99).any()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().moments(x)


def deadly(_: object) -> attack.Still:
    """The prior that costs workers."""
    return Deadly()


ONE = {"--one": still, "--one-deadly": deadly}
"""The first word of the processes that this one starts, and their prior."""


def restored_cheaply(prior: Callable[[object], attack.Still], words: list[str]) -> int:
    """``flowdps restore`` with a prior that costs nothing; prints the cost as JSON."""
    import resource

    # By name, as it is what is measured, and no part of this room.
    request: Any = importlib.import_module("..cli.request", __package__)
    request.prior_of = prior
    main = attack.command()
    began, clock = time.process_time(), time.perf_counter()
    code = main(["restore", *words])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = [time.process_time() - began, time.perf_counter() - clock, most]
    print(json.dumps(spent), file=sys.stderr)
    return code


def cost(folder: Path, out: Path) -> list[float]:
    """Processor seconds, clock seconds and MiB of a run, without the imports' time."""
    words = [str(folder), "--out", str(out), *QUICK]
    run = subprocess.run(
        [sys.executable, "-m", f"{PACKAGE}.benchmarks.many", "--one", *words],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(run.stderr)
    return json.loads(run.stderr.strip().splitlines()[-1])


def costs(counts: list[int], side: int) -> None:
    """Print the table of costs."""
    print("| photos | run | processor, ms per photo | clock, ms per photo | most memory, MiB |")
    print("|---|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as base:
            folder, out = pictures(Path(base) / "in", count, side), Path(base) / "out"
            for name in ("restored", "all skipped", "every tenth resumed"):
                if name.startswith("every"):
                    for file in sorted(out.glob("*_restored.png"))[::10]:
                        file.unlink()
                processor, clock, most = cost(folder, out)
                each = f"{1000 * processor / count:.2f} | {1000 * clock / count:.2f}"
                print(f"| {count} | {name} | {each} | {most:.0f} |", flush=True)


def workers() -> list[int]:
    """The ids of Ray's workers that this user's runs have; Linux tells them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if words.startswith(WORKER):
            found.append(int(entry.parent.name))
    return found


def lines(out: Path) -> dict[str, dict[str, object]]:
    """The log by run. ValueError for a photo that is there twice."""
    found: dict[str, dict[str, object]] = {}
    for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["run"] in found:
            raise ValueError(f"{record['input']} is in the log twice")
        found[record["run"]] = record
    return found


def batches(sides: list[int]) -> None:
    """Print the table of batches."""
    prior = load_prior(device="cpu")
    file = min((HELD_OUT / "test").glob("*.png"))
    whole, drawn = read_image(file)[0], random.Random(0)
    print("| method | side | batch | processor, ms per photo | differs by | 8-bit values | bits |")
    print("|---|---|---|---|---|---|---|")
    for method, steps in (("refine", 1), ("flowdps", 3)):
        settings = preset(method, "fast" if method == "refine" else None)
        request = Request(recipe_for_task("sr_bicubic", 2), method, settings, steps)
        for side in sides:
            shifted = [resize(whole.roll(3 * k, 3), side, side) for k in range(8)]
            photos = [prepare(x, f"{k}.png", request, prior) for k, x in enumerate(shifted)]
            alone: list[Tensor] = []
            for size in (1, 2, 4, 8):
                began, found = time.process_time(), list[Tensor]()
                for k in range(0, 8, size):
                    found += [x.restored for x in restore(photos[k : k + size], request, prior)]
                spent = 1000 * (time.process_time() - began) / 8
                alone = alone or found
                far = max(float((a - b).abs().max()) for a, b in zip(alone, found, strict=True))
                values = sum(
                    int((_eight_bits(a) != _eight_bits(b)).sum())
                    for a, b in zip(alone, found, strict=True)
                )
                others = [photos[0], *drawn.choices(photos, k=size - 1)]
                drawn.shuffle(others)
                again = restore(others, request, prior)[others.index(photos[0])].restored
                bits = "the same" if torch.equal(again, found[0]) else "others"
                row = f"{method} | {side} | {size} | {spent:.0f} | {far:.1e} | {values} | {bits}"
                print(f"| {row} |", flush=True)


def _eight_bits(x: Tensor) -> Tensor:
    return ((x + 1) * 127.5).round()


def logged(out: Path) -> int:
    """How many photos are finished."""
    try:
        return (out / "results.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


Strike = Callable[[random.Random], bool]
"""Kills something now, and says whether there was anything."""


def kill_worker(drawn: random.Random) -> bool:
    """One of the workers, also while it loads the model."""
    there = workers()
    if there:
        os.kill(drawn.choice(there), signal.SIGKILL)
    return bool(there)


@contextlib.contextmanager
def nodes(count: int) -> Iterator[tuple[str, Strike]]:
    """A cluster of ``count`` nodes with a place for one worker each, beside the head that has none:
    its address, and what kills one and puts a new one in its place."""
    from ray.cluster_utils import Cluster  # type: ignore[reportMissingImports]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    there = [cluster.add_node(num_cpus=1) for _ in range(count)]

    def strike(drawn: random.Random) -> bool:
        cluster.remove_node(there.pop(drawn.randrange(count)), allow_graceful=False)
        there.append(cluster.add_node(num_cpus=1))
        return True

    try:
        yield cluster.address, strike
    finally:
        cluster.shutdown()


def kills(
    count: int, photos: int, side: int, seed: int, words: list[str], strike: Strike, deadly: bool
) -> int:
    """Kill what ``strike`` kills ``count`` times during runs on a cluster, each at a random instant
    after a random number of photos; the exit code says whether all is as in a plain run. deadly:
    one photo more, which is not restored."""
    drawn = random.Random(seed)
    module = (sys.executable, "-m", f"{PACKAGE}.benchmarks.many")
    with tempfile.TemporaryDirectory() as base:
        folder = pictures(Path(base) / "in", photos, side)
        command = [*module, "--one", str(folder), *(SEEN if deadly else QUICK)]
        plain = Path(base) / "plain"
        subprocess.run([*command, "--out", str(plain)], check=True, stdout=subprocess.DEVNULL)
        wanted = {file.name: file.read_bytes() for file in plain.glob("*.png")}
        if deadly:
            Image.new("RGB", (side, side), "white").save(folder / f"{photos // 2:05}-deadly.png")
            command[len(module)] = "--one-deadly"
        done, runs, wrong = 0, 0, 0
        while done < count or not runs:
            out, runs = Path(base) / f"ray{runs}", runs + 1
            more = ["--engine", "ray", *words, "--out", str(out)]
            said = Path(base) / "said"
            with said.open("w") as stream:
                run = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=stream)
                until = 1
                while run.poll() is None:
                    time.sleep(drawn.uniform(0, 0.5))
                    if done < count and logged(out) >= until and strike(drawn):
                        done += 1
                        until = logged(out) + drawn.randint(1, 2 * photos // count + 1)
            found = {file.name: file.read_bytes() for file in out.glob("*.png")}
            lost = len(wanted.keys() - found.keys())
            extra = len(found.keys() - wanted.keys())
            differ = sum(found.get(name, content) != content for name, content in wanted.items())
            same = lines(out) == lines(plain)
            aside = [line for line in said.read_text().splitlines() if "it is set aside" in line]
            print(
                f"run {runs}: exit code {run.returncode}, {done} kills in all, {len(wanted)} files,"
                f" {lost} lost, {extra} too many, {differ} differ, the log"
                f" {'is the same' if same else 'differs'}",
                *aside,
                sep="\n",
                flush=True,
            )
            wrong += lost + extra + differ + (not same) + (run.returncode != 2 * deadly)
            wrong += [line.split(": ")[1] for line in aside] != [
                file.name for file in folder.glob("*-deadly.png")
            ]
    return 1 if wrong else 0


def main() -> int:
    if sys.argv[1:] and sys.argv[1] in ONE:
        return restored_cheaply(ONE[sys.argv[1]], sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--kills", type=int, default=0, help="kill workers so often instead")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--ray-address", help="of a cluster that is there; else one is started")
    parser.add_argument("--nodes", type=int, help="of a cluster, which are killed, not workers")
    parser.add_argument("--deadly", action="store_true", help="a photo that kills workers")
    parser.add_argument("--photos", type=int, default=300, help="of a run with kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", action="store_true", help="measure batches instead")
    args = parser.parse_args()
    if args.batches:
        batches([32, 64])
        return 0
    if args.kills or args.deadly:
        given = (args.kills, args.photos, args.side, args.seed)
        if args.nodes:
            with nodes(args.nodes) as (address, strike):
                words = ["--workers", str(args.nodes), "--ray-address", address]
                return kills(*given, words, strike, args.deadly)
        words = ["--workers", str(args.workers)]
        words += ["--ray-address", args.ray_address] if args.ray_address else []
        return kills(*given, words, kill_worker, args.deadly)
    costs(args.counts, args.side)
    return 0


if __name__ == "__main__":
    sys.exit(main())
