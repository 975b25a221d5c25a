"""The command ``flowdps``: restore photos, or measure the methods."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .. import benchmarks
from ..operators import TASKS, Kernel, Mask, recipe_for_task
from ..operators.kernel import trimmed
from ..priors.base import is_out_of_memory
from ..priors.gradients.modes import MODES
from ..restoration import images
from ..restoration.degradation import ESTIMATES, NOISE, Damage, recipe_from_picture
from ..restoration.pipeline import Request
from ..samplers import METHODS, PRESETS, preset
from .runs import Restoring

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
        help=f"one of {', '.join((*TASKS, *FROM_FILES))}; without it, what --kernel, --mask or"
        " --estimate says, else sr_bicubic",
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
        "--estimate",
        action="append",
        choices=ESTIMATES,
        help="what each observed photo tells by itself: noise; blur (soft, out of focus or moved in"
        " a straight line) with its noise, before the task; jpeg, by its file, after the task; may"
        " be given several times",
    )
    add(
        "--noise",
        type=float,
        help="standard deviation of the noise, images being in [-1, 1]; without it, what --estimate"
        f" finds, else {NOISE}",
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
    benchmarks.add_arguments(b)
    return top


def task_of(args: argparse.Namespace) -> str:
    """The task that a command line names, or means by the files that it gives.

    ValueError for an unknown one, and for one whose file is missing.
    """
    meant = [task for task, option in FROM_FILES.items() if getattr(args, option) is not None]
    otherwise = "identity" if args.estimate else "sr_bicubic"
    task: str = args.task or (meant[-1] if meant else otherwise)
    if task not in (*TASKS, *FROM_FILES):
        names = ", ".join((*TASKS, *FROM_FILES))
        raise ValueError(f"unknown task {task!r}; expected one of {names}")
    if task in FROM_FILES and task not in meant:
        raise ValueError(f"--task {task} needs --{FROM_FILES[task]} FILE; see restore --help")
    return task


def damage_of(args: argparse.Namespace, kind: int) -> Damage:
    """Kernel, task and mask of a command line, and what each photo shall tell.

    ``kind`` of prior, DEMO or LARGE, for the task's own number. ValueError for what makes no sense.
    """
    name, estimate = task_of(args), tuple(args.estimate or ())
    if estimate and not args.observed:
        raise ValueError("--estimate looks at photos as they are: add --observed")
    if estimate and args.size:
        raise ValueError("--estimate needs photos at their own size: leave --size out")
    if "blur" in estimate and args.kernel is not None:
        raise ValueError("--estimate blur and --kernel both say the blur: choose one")
    if "jpeg" in estimate and name == "jpeg":
        raise ValueError("--estimate jpeg and --task jpeg say the same: choose one")
    blur = task = mask = None
    if args.kernel is not None:
        blur = recipe_from_picture(args.kernel, lambda x: Kernel.from_tensor(trimmed(x)))
    if name in TASKS:
        scale = args.deg_scale
        if scale is None and name in DEG_SCALE:
            scale = DEG_SCALE[name][kind]
        task = recipe_for_task(name, scale, seed=args.seed)
    if args.mask is not None:
        mask = recipe_from_picture(args.mask, Mask.from_painted)
    return Damage(blur, task, mask, estimate, args.noise)


def request_of(args: argparse.Namespace) -> tuple[Request, Damage]:
    """The request of a command line, and what each photo changes of it; ValueError for what makes
    no sense."""
    kind = DEMO if args.prior is None else LARGE
    damage = damage_of(args, kind)
    settings = preset(args.method, args.preset)
    if args.step_size is not None:
        settings = dataclasses.replace(settings, step_size=args.step_size)
    if args.stop is not None:
        settings = dataclasses.replace(settings, stop=args.stop)
    request = Request(
        damage.recipe(),
        args.method,
        settings,
        args.steps,
        damage.noise_level,
        args.seed,
        args.size,
        SIDE[kind],
        args.observed,
        args.tile,
    )
    return request, damage


def run_restore(args: argparse.Namespace) -> int:
    """``flowdps restore``."""
    if args.batch < 1:
        raise ValueError(f"--batch is {args.batch}; expected at least 1")
    request, damage = request_of(args)
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
    return Restoring(args, request, damage, task_of(args)).run(files)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 when all went well, 2 for bad input, 130 when interrupted."""
    args = parser().parse_args(arguments)
    try:
        return run_restore(args) if args.command == "restore" else benchmarks.run(args)
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
