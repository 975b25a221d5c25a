"""The arguments of ``flowdps``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NoReturn

from .. import benchmarks
from ..operators import TASKS
from ..priors.gradients.modes import MODES
from ..restoration.degradation import ESTIMATES, NOISE
from ..samplers import METHODS, PRESETS
from .request import FROM_FILES


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
