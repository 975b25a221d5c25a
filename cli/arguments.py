"""The arguments of ``flowdps``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..estimation.registry import ESTIMATORS, KERNEL_SIZE
from ..operators import REGISTRY
from ..operators.degradation import Degradation
from ..priors.gradients.modes import MODES
from ..restoration.degradation import ESTIMATES, NOISE
from ..samplers import METHODS, PRESETS


class Retired(argparse.Action):
    """An option that has another name now, which its ``metavar`` says in a sentence."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        parser.error(str(self.metavar))


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


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and keeps the lines of the list of tasks."""


def tasks() -> str:
    """The list of tasks, for ``restore --help``."""
    lines = [
        "tasks, with the meaning of --deg-scale and its default for the demo prior and others:"
    ]
    for row in REGISTRY.values():
        lines.append(f"  {row.name:<18}{row.description}")
        if own := own_option(row):
            lines.append(f"  {'':<18}{own}")
    return "\n".join(lines)


def own_option(row: Degradation) -> str:
    """What a task takes beside its name, in words; empty where that is nothing."""
    if row.file:
        return f"--{row.file} FILE"
    if row.number is None:
        return ""
    return f"--deg-scale: {row.number.meaning} ({row.number.small:g}; {row.number.large:g})"


def add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``flowdps restore``."""
    parser.epilog = tasks()
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="image files, or folders of images")
    add("--out", type=Path, default=Path("out"), help="folder for the results")
    add(
        "--task",
        help="what happened to the photos, one of the tasks listed below; without it, what"
        " --kernel, --mask or --estimate says, else sr_bicubic",
    )
    add(
        "--deg-scale",
        type=float,
        help="the task's own number, such as a scale factor or the width of a blur: see the list of"
        " tasks below",
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
        metavar="WHAT",
        help="what each observed photo tells by itself; may be given several times: "
        + "; ".join(f"{name}, {ESTIMATORS[name].about}" for name in ESTIMATES),
    )
    add(
        "--kernel-size",
        type=int,
        default=KERNEL_SIZE,
        metavar="PIXELS",
        help="width, odd, of the kernel that --estimate free finds",
    )
    add(
        "--noise",
        type=float,
        help="standard deviation of the noise, images being in [-1, 1]; without it, what --estimate"
        f" finds, else {NOISE}",
    )
    about = "; ".join(f"{name}: {row.about.rstrip('.')}" for name, row in METHODS.items())
    add("--method", default="flowdps", choices=list(METHODS), help=about.replace("%", "%%"))
    add("--preset", default=PRESETS[0], choices=list(PRESETS), help="the method's settings")
    add(
        "--step-scale",
        type=float,
        default=1.0,
        help="multiplies the preset's step towards the photo; 0 ignores the photo",
    )
    add(
        "--step-size",
        nargs="?",
        action=Retired,
        help=argparse.SUPPRESS,
        metavar="--step-size is now --step-scale, which multiplies the preset's step: 1 keeps it",
    )
    add(
        "--inner-steps",
        type=int,
        help="steps towards the photo per noise level, for methods that take several; 0 or"
        " nothing: the preset's",
    )
    add(
        "--stop",
        type=float,
        metavar="RATIO",
        help="pull no further once the residual is down to this many times the noise, 1 for what"
        " the noise explains; 0: never; -1 or nothing: the preset's",
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


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``flowdps bench``; only this verb imports the benchmark."""
    from .. import benchmarks

    benchmarks.add_arguments(parser)


VERBS = {
    "restore": ("restore photos", add_restore_arguments),
    "bench": ("measure all methods on the held-out pictures", add_bench_arguments),
}
"""What ``flowdps`` can do: a verb, what its help says, and what adds its arguments."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line of ``flowdps``, by default that of this process.

    Only the verb that is asked for gets its arguments, so that no verb pays for another's imports.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    top = Parser(prog="flowdps", description="Restore photos with a flow model, without training.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, parser_class=Parser)
    for name, (summary, add_arguments) in VERBS.items():
        verb = verbs.add_parser(name, help=summary, formatter_class=Formatter)
        if name in words[:1]:
            add_arguments(verb)
    return top.parse_args(words)
