"""The command ``flowdps``: restore photos, or measure the methods."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor
from tqdm import tqdm

from . import bench, images
from .operators import TASKS, Chain, Kernel, Mask, Recipe, recipe_for_task
from .operators.kernel import trimmed
from .priors.base import FlowPrior, is_out_of_memory
from .priors.memory import MODES
from .restoration import Photo, Request, Restored, prepare, restore
from .samplers import METHODS, PRESETS, preset
from .samplers.base import Step

DEMO, LARGE = 0, 1
# Shorter side, and deg_scale of every task: for the demo prior, and as in the paper.
SIDE = (128, 768)
DEG_SCALE: dict[str, tuple[float | None, float | None]] = {
    "sr_avgpool": (4, 12),
    "sr_bicubic": (4, 12),
    "sr_lanczos": (4, 12),
    "sr_bilinear": (4, 12),
    "sr_area": (4, 12),
    "sr_nearest": (4, 12),
    "deblur_gauss": (19, 61),
    "deblur_motion": (17, 61),
    "deblur_uni": (5, 9),
    "deblur_aniso": (19, 61),
    "deblur_defocus": (4, 12),
    "deblur_nonuniform": (11, 25),
    "outpainting": (16, 96),
    "colorization": (None, None),
    "interlace": (None, None),
    "bayer": (None, None),
    "cs_walshhadamard": (4, 4),
    "cs_blockbased": (4, 4),
    "jpeg": (10, 10),
    "quantise": (4, 4),
    "clip": (None, None),
    "identity": (None, None),
}
FROM_FILES = {"inpainting": "mask", "deblur_kernel": "kernel"}
"""Tasks that need a file, and the option that names it."""
PARTS = ("measurement", "restored", "sheet")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def size(text: str) -> tuple[int, int]:
    """``768x1152`` to (height, width)."""
    found = re.fullmatch(r"(\d+)[xX×](\d+)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; expected HEIGHTxWIDTH, such as 768x1152"
        )
    return int(found[1]), int(found[2])


def parser() -> Parser:
    """The command line of ``flowdps``."""
    top = Parser(prog="flowdps", description="Restore photos with a flow model, without training.")
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    r = commands.add_parser(
        "restore",
        help="restore photos",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = r.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="image files, or folders of images")
    add("--out", type=Path, default=Path("out"), help="folder for the results")
    add(
        "--task",
        help=f"one of {', '.join((*TASKS, *FROM_FILES))}; without it, what --kernel or --mask says,"
        " else sr_bicubic",
    )
    add(
        "--deg-scale",
        type=float,
        help="scale factor, size of the blur kernel in pixels, or the task's own number: see"
        " docs/operators.md",
    )
    add(
        "--mask",
        type=Path,
        metavar="FILE",
        help="a black and white picture, white where the photo is unknown; stretched over every"
        " photo, as --size leaves it, after the task",
    )
    add(
        "--kernel",
        type=Path,
        metavar="FILE",
        help="a picture of what a point of light became, white on black: a blur before the task",
    )
    add(
        "--observed",
        action="store_true",
        help="the input is degraded already; its clean image is not known",
    )
    add(
        "--noise",
        type=float,
        default=0.03,
        help="standard deviation of the noise, images being in [-1, 1]",
    )
    add("--method", default="flowdps", choices=list(METHODS), help="sampler")
    add("--preset", default="tuned", choices=list(PRESETS), help="the sampler's settings")
    add("--step-size", type=float, help="instead of the preset's")
    add(
        "--stop",
        type=float,
        metavar="RATIO",
        help="pull no further once the residual is down to this many times the noise, 1 for what"
        " the noise explains; 0: never; instead of the preset's",
    )
    add("--steps", type=int, default=28, help="noise levels")
    add("--prior", help="safetensors file, model folder or hub id; default: the demo prior")
    add("--config", help="model folder or hub id that completes a single file")
    add("--prompt", default="", help="what the photos show")
    add("--negative", default="", help="what they do not show")
    add("--cfg", type=float, default=2.0, help="weight of the prompt")
    add("--seed", type=int, default=0, help="the same seed gives the same pictures")
    add("--size", type=size, metavar="HxW", help="size of the restoration; default: see README")
    add(
        "--tile",
        type=int,
        default=0,
        metavar="PIXELS",
        help="side of the tiles in which the model sees a large image; 0: automatic",
    )
    add("--device", default="auto", help="cpu, cuda, mps or auto")
    add("--dtype", default="auto", help="float32, float16, bfloat16 or auto")
    add("--batch", type=int, default=1, help="photos of one size to restore at once")
    add(
        "--memory",
        default="auto",
        choices=["auto", *MODES],
        help="what the decoder's gradient keeps: the later, the less memory and the more time; tiny"
        " takes the gradient of a small decoder instead",
    )
    add("--tiny-vae", metavar="MODEL", help="folder or hub id of the small autoencoder of tiny")
    b = commands.add_parser(
        "bench",
        help="measure all methods on the held-out pictures",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bench.add_arguments(b)
    return top


def task_of(args: argparse.Namespace) -> str:
    """The task that a command line names, or means by the files that it gives.

    ValueError for an unknown one, and for one whose file is missing.
    """
    meant = [task for task, option in FROM_FILES.items() if getattr(args, option) is not None]
    task: str = args.task or (meant[-1] if meant else "sr_bicubic")
    if task not in (*TASKS, *FROM_FILES):
        names = ", ".join((*TASKS, *FROM_FILES))
        raise ValueError(f"unknown task {task!r}; expected one of {names}")
    if task in FROM_FILES and task not in meant:
        raise ValueError(f"--task {task} needs --{FROM_FILES[task]} FILE; see restore --help")
    return task


def recipe_of(args: argparse.Namespace, kind: int) -> Recipe:
    """Kernel, task and mask of a command line, in that order; ValueError for what makes no sense.

    ``kind`` of prior, DEMO or LARGE, for the task's own number.
    """
    task = task_of(args)
    parts: list[Recipe] = []
    if args.kernel is not None:
        parts.append(_said_of(args.kernel, lambda x: Kernel.from_tensor(trimmed(x))))
    if task in TASKS:
        scale = args.deg_scale
        if scale is None and task in DEG_SCALE:
            scale = DEG_SCALE[task][kind]
        parts.append(recipe_for_task(task, scale, seed=args.seed))
    if args.mask is not None:
        parts.append(_said_of(args.mask, Mask.from_painted))
    return parts[0] if len(parts) == 1 else Chain(tuple(parts))


def _said_of(file: Path, make: Callable[[Tensor], Recipe]) -> Recipe:
    """What ``make`` makes of a picture; ValueError names the file."""
    picture = images.read_grey(file)
    try:
        return make(picture)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def request_of(args: argparse.Namespace) -> Request:
    """The request of a command line; ValueError for what makes no sense."""
    kind = DEMO if args.prior is None else LARGE
    recipe = recipe_of(args, kind)
    settings = preset(args.method, args.preset)
    if args.step_size is not None:
        settings = dataclasses.replace(settings, step_size=args.step_size)
    if args.stop is not None:
        settings = dataclasses.replace(settings, stop=args.stop)
    return Request(
        recipe,
        args.method,
        settings,
        args.steps,
        args.noise,
        args.seed,
        args.size,
        SIDE[kind],
        args.observed,
        args.tile,
    )


def outputs(folder: Path, files: Sequence[Path]) -> list[dict[str, Path]]:
    """Where the pictures of every file go: named by the stem, and by more where stems repeat."""
    taken: set[str] = set()
    result = []
    for file in files:
        suffix = file.suffix[1:]
        names = [file.stem, f"{file.stem}_{suffix}"]
        names += [f"{file.stem}_{suffix}_{k}" for k in range(2, len(files) + 2)]
        name = next(n for n in names if n.lower() not in taken)
        taken.add(name.lower())
        result.append({part: folder / f"{name}_{part}.png" for part in PARTS})
    return result


class Log:
    """``results.jsonl``: one line per finished image; older lines are never touched."""

    def __init__(self, folder: Path):
        self.path = folder / "results.jsonl"
        self.finished: set[str] = set()
        self.cut = False
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            self.cut = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    self.finished.add(json.loads(line)["run"])
                except (ValueError, KeyError, TypeError):
                    continue  # A line that a crash cut off: that image is restored again.

    def add(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("\n" * self.cut + json.dumps(record, ensure_ascii=False) + "\n")
        self.cut = False


class Restoring:
    """Works through a list of files; the model is loaded when the first photo can be read."""

    def __init__(self, args: argparse.Namespace, request: Request):
        self.args, self.request = args, request
        self.settings = {
            "task": task_of(args),
            "operator": request.recipe.to_dict(),
            "mask": None if args.mask is None else str(args.mask),
            "kernel": None if args.kernel is None else str(args.kernel),
            "observed": request.observed,
            "noise": request.noise,
            "method": request.method,
            "preset": args.preset,
            **dataclasses.asdict(request.settings),
            "steps": request.steps,
            "prior": args.prior or "demo",
            "config": args.config,
            "prompt": args.prompt,
            "negative": args.negative,
            "cfg": args.cfg,
            "size": args.size,
            "tile": args.tile,
            "seed": request.seed,
            "dtype": args.dtype,
            # Only these change the picture beyond rounding.
            "guide": args.tiny_vae or "tiny" if args.memory == "tiny" else "vae",
        }
        self.prior: FlowPrior | None = None
        self.log = Log(args.out)
        self.failed = self.done = self.skipped = 0

    def load(self) -> FlowPrior:
        """The prior; ValueError for one that does not serve."""
        if self.prior is None:
            from .priors.diffusers import load_prior

            args = self.args
            self.prior = load_prior(
                args.prior,
                device=args.device,
                dtype=args.dtype,
                prompt=args.prompt,
                negative=args.negative,
                cfg=args.cfg,
                config=args.config,
                memory=args.memory,
                tiny=args.tiny_vae,
            )
        return self.prior

    def say(self, text: str, *, error: bool = False) -> None:
        """One line, above the progress bar."""
        tqdm.write(text, file=sys.stderr if error else sys.stdout)

    def refuse(self, error: Exception) -> None:
        """Report one photo that cannot be restored."""
        self.failed += 1
        self.say(f"flowdps: {error}", error=True)

    def run(self, files: Sequence[Path]) -> int:
        """Restore all files; the exit code."""
        places = outputs(self.args.out, files)
        waiting: dict[tuple[object, ...], list[tuple[Photo, Path, dict[str, Path], str]]] = {}
        total = len(files) * self.request.steps
        with tqdm(total=total, unit="step", disable=None, leave=False) as self.bar:
            for file, place in zip(files, places, strict=True):
                try:
                    pixels, notes = images.read_image(file)
                except ValueError as error:
                    self.refuse(error)
                    continue
                key = json.dumps([self.settings, str(file)]).encode() + file.read_bytes()
                run = hashlib.sha256(key).hexdigest()[:16]
                if run in self.log.finished and all(p.exists() for p in place.values()):
                    self.skipped += 1
                    self.bar.update(self.request.steps)
                    continue
                prior = self.load()
                try:
                    photo = prepare(pixels, file.name, self.request, prior)
                except ValueError as error:
                    self.refuse(error)
                    continue
                photo.notes[:0] = notes
                alike = (photo.size, tuple(photo.padded.shape), photo.recipe)
                group = waiting.setdefault(alike, [])
                group.append((photo, file, place, run))
                if len(group) == self.args.batch:
                    self.finish(waiting.pop(alike))
            for group in waiting.values():
                self.finish(group)
        if self.skipped:
            self.say(f"{self.skipped} finished before, with the same settings; skipped")
        if self.done:
            self.say(f"{self.done} restored: {self.args.out}")
        return 2 if self.failed else 0

    def finish(self, group: list[tuple[Photo, Path, dict[str, Path], str]]) -> None:
        """Restore one batch and write its results."""
        photos = [photo for photo, *_ in group]

        def advance(_: Step) -> None:
            self.bar.update(len(photos))

        try:
            results = restore(photos, self.request, self.load(), advance)
        except ValueError as error:
            names = ", ".join(photo.name for photo in photos)
            self.refuse(ValueError(f"{names}: {error}"))
            return
        for (photo, file, place, run), result in zip(group, results, strict=True):
            self.write(photo, file, place, run, result)

    def write(
        self, photo: Photo, file: Path, place: dict[str, Path], run: str, result: Restored
    ) -> None:
        """The pictures first, then the line that says they are there."""
        columns = [("measurement", result.measurement), (self.request.method, result.restored)]
        if result.clean is not None:
            columns.append(("clean", result.clean))
        images.save_png(result.measurement, place["measurement"])
        images.save_png(result.restored, place["restored"])
        images.save_png(images.sheet(columns), place["sheet"])
        scores = {key: getattr(result, key) for key in ("psnr", "ssim", "residual_ratio")}
        self.log.add(
            {
                "input": str(file),
                **{f"{part}_file": path.name for part, path in place.items()},
                "height": result.restored.shape[2],
                "width": result.restored.shape[3],
                **scores,
                **self.settings,
                "device": str(self.load().device),
                "batch": self.args.batch,
                "work": result.work,
                "notes": photo.notes,
                "run": run,
            }
        )
        self.done += 1
        told = {
            "psnr": "PSNR {:.2f} dB",
            "ssim": "SSIM {:.3f}",
            "residual_ratio": "residual/noise {:.2f}",
        }
        parts = [told[k].format(v) for k, v in scores.items() if v is not None] + photo.notes
        self.say(f"{file.name}: {', '.join(parts)}")


def run_restore(args: argparse.Namespace) -> int:
    """``flowdps restore``."""
    if args.batch < 1:
        raise ValueError(f"--batch is {args.batch}; expected at least 1")
    request = request_of(args)
    files = images.find_images(args.inputs)
    missing = [file for file in files if not file.exists()]
    if missing:
        raise ValueError(f"no such file: {missing[0]}")
    if args.out.resolve() in {Path(given).resolve() for given in args.inputs}:
        raise ValueError(
            f"--out is {args.out}, an input as well; choose another folder for results"
        )
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"--out is {args.out}, a file; expected a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    return Restoring(args, request).run(files)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 when all went well, 2 for bad input, 130 when interrupted."""
    args = parser().parse_args(arguments)
    try:
        return run_restore(args) if args.command == "restore" else bench.run(args)
    except (ValueError, OSError) as error:
        print(f"flowdps: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print("flowdps: out of memory: choose a smaller --tile, --size or --batch", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("flowdps: stopped; what is finished is kept, run it again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
