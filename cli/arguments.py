"""The command-line arguments of ``flowdps``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..estimation.registry import ESTIMATORS, KERNEL_SIZE
from ..operators import REGISTRY
from ..operators.degradation import Degradation
from ..priors.built_in import BUILT_IN, PHOTO
from ..priors.gradients.modes import MODES
from ..restoration.degradation import ESTIMATES, NOISE
from ..restoration.diagnosis import EFFORTS, STRENGTHS, WRONGS
from ..restoration.several import WHITE
from ..samplers import METHODS, PRESETS


class Retired(argparse.Action):
    """A renamed option: using it is an error, whose message is the ``metavar``."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        parser.error(str(self.metavar))


class Parser(argparse.ArgumentParser):
    """Reports errors in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def square(text: str) -> int:
    """Parse the side of a square, ``768`` or ``768x768``.

    Of two sides, scripts from before the options --width and --height give the height first.
    """
    found = re.fullmatch(r"(\d{1,9})(?:[xX×](\d{1,9}))?", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; expected the side of a square in pixels, such as 768; give"
            " other sizes by --width and --height"
        )
    first, second = int(found[1]), int(found[2] or found[1])
    if first != second:
        raise argparse.ArgumentTypeError(
            f"{text.strip()} is no longer understood, as it was height x width, and sizes are width"
            f" x height now: for what it made, give --width {second} --height {first}"
        )
    return first


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help formatter that shows defaults and keeps the line breaks of the list of tasks."""


def tasks() -> str:
    """The list of tasks, for ``restore --help``."""
    lines = [
        "tasks, with the meaning of --deg-scale and its default for the priors that come along and"
        " others:"
    ]
    for row in REGISTRY.values():
        lines.append(f"  {row.name:<18}{row.description}")
        if own := own_option(row):
            lines.append(f"  {'':<18}{own}")
    return "\n".join(lines)


def own_option(row: Degradation) -> str:
    """Help on the option of a task, a file or --deg-scale; empty if it has none."""
    if row.file:
        return f"--{row.file} FILE"
    if row.number is None:
        return ""
    return f"--deg-scale: {row.number.meaning} ({row.number.small:g}; {row.number.large:g})"


def add_restore_arguments(
    parser: argparse.ArgumentParser, without: Container[str] = frozenset()
) -> None:
    """Add the arguments of ``flowdps restore``, without those of the given names."""
    parser.epilog = tasks()

    def add(name: str, **how: Any) -> None:
        if name.removeprefix("--").replace("-", "_") not in without:
            parser.add_argument(name, **how)

    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="image files, or folders of images; paths, or addresses such as s3://bucket/photos",
    )
    add("--out", default="out", help="folder for the results, a path or an address")
    add(
        "--wrong",
        choices=list(WRONGS),
        help="what is wrong with the photos. It is looked for in each of them at its own size, and"
        " said; a photo with nothing to repair is passed on as it is. If you know, choose it: what"
        " is not looked for cannot be found by mistake. small: the photo is enlarged; scratched:"
        " scratches are found, or given by --mask, and the other pixels stay as they are; old"
        " video: every second line is from another instant; if not given, and nothing else says"
        f" how the photos were damaged, {next(iter(WRONGS))}",
    )
    add(
        "--strength",
        choices=list(STRENGTHS),
        help="how much of what is wrong is repaired; default: as found",
    )
    add(
        "--invent",
        type=float,
        help="of what is wrong: 0, hardly any new detail, to 1, the photo is only a guide; default:"
        " 0.5, detail that fits the photo",
    )
    add(
        "--enlarge",
        type=int,
        metavar="TIMES",
        help="how many times larger the photo becomes; default: 4 if it is small, else 1",
    )
    add(
        "--effort",
        choices=list(EFFORTS),
        help="fast: a third of the work; thorough: twice the work; default: normal",
    )
    add(
        "--sensitivity",
        type=float,
        help="of the search for scratches: 0, only strong ones, to 1; default: 0.5",
    )
    add(
        "--task",
        help="the degradation of the photos, one of the tasks listed below, instead of what is"
        " found in them; if not given, as implied by --kernel, --mask or --estimate",
    )
    add(
        "--deg-scale",
        type=float,
        help="the number of the task, such as a scale factor or the width of a blur; see the list"
        " of tasks below",
    )
    add(
        "--mask",
        type=Path,
        metavar="FILE",
        help="a black and white picture, white where the photo is unknown; resized to every photo"
        " after --size (or --width and --height), and applied after the task",
    )
    add(
        "--kernel",
        type=Path,
        metavar="FILE",
        help="a picture of the blur kernel (a blurred point of light), white on black; this blur"
        " comes before the task",
    )
    add(
        "--observed",
        action="store_true",
        help="the input is degraded already; its clean image is not known. Without a --task this"
        " is so anyway",
    )
    add(
        "--estimate",
        action="append",
        choices=ESTIMATES,
        metavar="WHAT",
        help="what to estimate from each observed photo; may be given several times: "
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
        help="standard deviation of the noise, for images in [-1, 1]; if not given, as found, or"
        f" estimated by --estimate, else {NOISE}",
    )
    about = "; ".join(f"{name}: {row.about.rstrip('.')}" for name, row in METHODS.items())
    add(
        "--method",
        default=next(iter(METHODS)),
        choices=list(METHODS),
        help=about.replace("%", "%%"),
    )
    presets = "; ".join(f"{name}: {', '.join(row.presets)}" for name, row in METHODS.items())
    add(
        "--preset",
        choices=list(PRESETS),
        help=f"the method's settings, by default the first of its presets: {presets}",
    )
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
        help="steps towards the photo per noise level, for methods that take several; 0 or not"
        " given: as in the preset",
    )
    add(
        "--denoise",
        type=float,
        help="first noise level of refine, above 0 to 1: the higher, the more is invented; if not"
        " given, the one that suits the model",
    )
    add(
        "--stop",
        type=float,
        metavar="RATIO",
        help="end the steps towards the photo once the residual falls to this many times the noise"
        " level; 1: the residual expected from the noise; 0: never; -1 or not given: as in the"
        " preset",
    )
    numbers = ", ".join(f"{row.steps} for {name}" for name, row in METHODS.items())
    add("--steps", type=int, help=f"number of noise levels; default: {numbers}")
    add(
        "--prior",
        help="one that comes along ("
        + ", ".join(BUILT_IN)
        + "), or a safetensors file, model folder or hub id; default: "
        + f"{PHOTO.name} where it is found out what is wrong, else {next(iter(BUILT_IN))}",
    )
    add("--config", help="model folder or hub id for the parts that a single file lacks")
    add("--prompt", default="", help="what the photos show")
    add("--negative", default="", help="what they do not show")
    weights = ", ".join(f"{row.cfg:g} for {name}" for name, row in METHODS.items())
    add(
        "--cfg",
        type=float,
        help=f"weight of classifier-free guidance; 1: none; default: {weights}",
    )
    add("--seed", type=int, default=0, help="the same seed gives the same pictures")
    add(
        "--samples",
        type=int,
        default=1,
        metavar="K",
        help="restorations of every photo; above 1, NAME_restored.png is their mean, which is"
        " closest on average (best PSNR) but soft; NAME_sample1.png and so on are the samples, each"
        " sharper, and NAME_spread.png is bright where they differ: the model guessed there"
        f" (white: a standard deviation of {WHITE:g} or more for images in [-1, 1], times the"
        " method's factor)",
    )
    add(
        "--size",
        type=square,
        metavar="SIDE",
        help="of a square restoration, in pixels; default: see README",
    )
    add("--width", type=int, metavar="PIXELS", help="of the restoration, with --height")
    add("--height", type=int, metavar="PIXELS", help="of the restoration, with --width")
    add(
        "--tile",
        type=int,
        default=0,
        metavar="PIXELS",
        help="side of the tiles in which the model processes a large image; 0: automatic",
    )
    add("--device", default="auto", help="cpu, cuda, mps or auto")
    add("--dtype", default="auto", help="float32, float16, bfloat16 or auto")
    add(
        "--batch",
        type=int,
        default=0,
        metavar="N",
        help="photos of one size to restore at once; a batch that is not full takes as long as a"
        " full one, so that a result does not depend on what else there is to do. 0: as many small"
        " ones as suit the model",
    )
    add(
        "--engine",
        default="plain",
        choices=["plain", "ray", "comfyui"],
        help="what restores: plain: this process; ray: the workers of a Ray cluster; comfyui: one"
        " or more ComfyUI servers; see docs/many_photos.md",
    )
    add(
        "--ray-address",
        metavar="ADDRESS",
        help="of the Ray cluster, such as auto or ray://head:10001; default: one is started on this"
        " machine",
    )
    add("--workers", type=int, metavar="N", help="of --engine ray; default: as many as fit")
    add("--server", nargs="+", metavar="URL", help="of --engine comfyui: the servers")
    add(
        "--memory",
        default="auto",
        choices=["auto", *MODES],
        help="how the decoder's gradient is computed; later choices need less memory and more time;"
        " tiny uses the gradient of a small decoder instead",
    )
    add(
        "--tiny-vae",
        metavar="MODEL",
        help="folder or hub id of the autoencoder of --memory tiny; default: for SD3's latents, the"
        " one that comes along",
    )


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``flowdps bench``; only this command imports the benchmark."""
    from .. import benchmarks

    benchmarks.add_arguments(parser)


def add_film_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``flowdps film``."""
    from . import film

    film.add_film_arguments(parser)


VERBS = {
    "restore": ("restore photos", add_restore_arguments),
    "film": ("restore a film, a video or a sequence of pictures", add_film_arguments),
    "bench": ("benchmark all methods on the held-out pictures", add_bench_arguments),
}
"""The subcommands: name, help text and the function that adds the arguments."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse ``arguments``, by default those of this process.

    Only the given subcommand adds its arguments, to avoid the imports of the others.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    top = Parser(prog="flowdps", description="Restore photos with a flow model, without training.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, parser_class=Parser)
    for name, (summary, add_arguments) in VERBS.items():
        verb = verbs.add_parser(name, help=summary, formatter_class=Formatter)
        if name in words[:1]:
            add_arguments(verb)
    for word in words:
        if word.startswith("--") and word.endswith("=--"):  # argparse makes an empty list of it.
            top.error(f"{word} gives no value; expected one after the =")
    return top.parse_args(words)
