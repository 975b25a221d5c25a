"""The registry of degradations, one row each, and recipes by name.

The tasks, defaults and choices of the command line and the nodes, the cases of benchmark and
gallery, and the tables of the documents are derived from these rows.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints

import torch

from .blocks import BlockSensing
from .blurs import AnisotropicBlur, BoxBlur, DefocusBlur, GaussianBlur, line
from .cadence import Cadence
from .chain import Chain
from .degradation import BenchCase, Degradation, GalleryCase, Number
from .downsampling import (
    AreaDownsample,
    AveragePool,
    BicubicDownsample,
    BilinearDownsample,
    LanczosDownsample,
    NearestDownsample,
)
from .dust import Dust
from .exposure import Exposure
from .fields import Fields
from .flicker import Flicker
from .grey import Colorization
from .hadamard import WalshHadamard
from .identity import Identity
from .jpeg import Jpeg
from .kernel import Kernel
from .mask import Mask
from .motion import MotionBlur
from .nonuniform import NonuniformBlur
from .outpainting import Outpainting
from .recipe import Recipe
from .rounding import Clip, Quantise
from .scratches import scratches
from .sensor import Bayer, Interlace


def _margins(number: float) -> dict[str, Any]:
    return dict.fromkeys(("left", "top", "right", "bottom"), number)


def _ratio(number: float) -> dict[str, Any]:
    if not number >= 1:
        raise ValueError(
            f"deg_scale is {number}; expected at least 1: how many times fewer values than pixels"
            " are measured"
        )
    return {"ratio": 1 / number}


def _half_known() -> Mask:
    """A mask of random pixels, half of them missing."""
    generator = torch.Generator().manual_seed(0)
    return Mask.from_tensor((torch.rand(128, 128, generator=generator) < 0.5).float())


def _scratched() -> Mask:
    """A mask of twelve scratches."""
    return Mask.from_painted(scratches(128, 128, count=12, thickness=2.0, seed=1))


def _three_taps() -> Kernel:
    """A kernel of three separate taps, as of a multiple exposure."""
    kernel = torch.zeros(13, 13)
    kernel[1, 2], kernel[6, 6], kernel[10, 12] = 1, 2, 1
    return Kernel.from_tensor(kernel)


SCALE = Number("how many times smaller each side became", "scale", 4, 12)
SENSING = Number(
    "how many times fewer numbers than pixels were measured", _ratio, 4, 4, "reduction"
)

DEGRADATIONS: tuple[Degradation, ...] = (
    # Downsampling.
    Degradation(
        AveragePool,
        "shrunk by averaging every block of pixels, as in a mosaic",
        SCALE,
        bench=(BenchCase("average x4", AveragePool(4)),),
        gallery=(GalleryCase("scale 4", AveragePool(4)),),
    ),
    Degradation(
        BicubicDownsample,
        "shrunk with a bicubic filter, as most image programs do",
        SCALE,
        bench=(
            BenchCase("SR x4", BicubicDownsample(4), paper=True),
            BenchCase("SR x8", BicubicDownsample(8), paper=True),
            BenchCase("SR x2", BicubicDownsample(2)),
        ),
        gallery=(GalleryCase("scale 4", BicubicDownsample(4)),),
    ),
    Degradation(
        LanczosDownsample,
        "shrunk with Lanczos' filter, the sharpest of the usual ones",
        SCALE,
        bench=(BenchCase("Lanczos x4", LanczosDownsample(4)),),
        gallery=(
            GalleryCase("scale 4", LanczosDownsample(4)),
            GalleryCase("4, antialias off", LanczosDownsample(4, antialias=False)),
        ),
    ),
    Degradation(
        BilinearDownsample,
        "shrunk with a bilinear filter, which is a soft one",
        SCALE,
        bench=(BenchCase("bilinear x4", BilinearDownsample(4)),),
        gallery=(GalleryCase("scale 4", BilinearDownsample(4)),),
    ),
    Degradation(
        AreaDownsample,
        "shrunk by what image programs call area or box; the same as sr_avgpool",
        SCALE,
        # No benchmark case: it would repeat that of sr_avgpool.
        gallery=(GalleryCase("scale 4", AreaDownsample(4)),),
    ),
    Degradation(
        NearestDownsample,
        "shrunk by keeping one pixel of every block",
        SCALE,
        bench=(BenchCase("nearest x4", NearestDownsample(4)),),
        gallery=(GalleryCase("scale 4", NearestDownsample(4)),),
    ),
    # Blur.
    Degradation(
        GaussianBlur,
        "softly out of focus, by a Gaussian blur of 3 pixels",
        Number("width of the kernel in pixels, odd", "size", 19, 61),
        bench=(BenchCase("Gaussian blur, sigma 3", GaussianBlur(19), blind="blur", paper=True),),
        gallery=(GalleryCase("size 19, sigma 3", GaussianBlur(19, 3.0)),),
    ),
    Degradation(
        MotionBlur,
        "shaken by a camera that moved along a random path",
        Number("width of the kernel in pixels", "size", 17, 61),
        bench=(
            BenchCase(
                "motion blur, 17",
                lambda seed: MotionBlur(17, seed=seed),
                blind="free",
                paper=True,
            ),
        ),
        gallery=(GalleryCase("size 17, seed 0", MotionBlur(17)),),
    ),
    Degradation(
        BoxBlur,
        "blurred by a box filter, every pixel being the mean of a square around it",
        Number("width of the kernel in pixels", "size", 5, 9),
        bench=(BenchCase("box blur, 9", BoxBlur(9)),),
        gallery=(GalleryCase("size 7", BoxBlur(7)),),
    ),
    Degradation(
        AnisotropicBlur,
        "smeared along a slanted line",
        Number("width of the kernel in pixels, odd", "size", 19, 61),
        bench=(BenchCase("Gaussian blur, 4 by 1", AnisotropicBlur(25, 4.0, 1.0)),),
        gallery=(GalleryCase("6 along, 0.8 across", AnisotropicBlur(31, 6.0, 0.8)),),
    ),
    Degradation(
        DefocusBlur,
        "out of focus, so that every point became a disk, as with a lens",
        Number("radius of the disk in pixels", "radius", 4, 12),
        bench=(BenchCase("lens blur, radius 4", DefocusBlur(4.0), blind="blur"),),
        gallery=(GalleryCase("radius 4", DefocusBlur(4.0)),),
    ),
    Degradation(
        Kernel,
        "blurred by the kernel that a picture shows",
        file="kernel",
        bench=(
            BenchCase(
                "straight motion, 12 at 30°",
                lambda _: Kernel.from_tensor(line(12, 30)),
                blind="blur",
            ),
            BenchCase("a kernel of three taps", lambda _: _three_taps()),
        ),
        gallery=(GalleryCase("three dots", _three_taps),),
    ),
    Degradation(
        NonuniformBlur,
        "sharp in the middle and blurred towards the corners, as by a simple lens",
        Number("width of the largest kernel in pixels", "size", 11, 25),
        bench=(BenchCase("lens blur at the corners", NonuniformBlur(size=13)),),
        gallery=(
            GalleryCase("defocus, size 15", NonuniformBlur("defocus", 15)),
            GalleryCase("motion, size 15", NonuniformBlur("motion", 15)),
        ),
    ),
    # Missing parts.
    Degradation(
        Mask,
        "unknown in places that a mask shows, such as scratches and holes",
        file="mask",
        bench=(
            BenchCase("half of the pixels", lambda _: _half_known()),
            BenchCase("scratches", lambda _: _scratched()),
            BenchCase("scratches on lens blur", lambda _: Chain((DefocusBlur(2.0), _scratched()))),
        ),
        gallery=(GalleryCase("a mask of scratches", _scratched),),
    ),
    Degradation(
        Outpainting,
        "cut off at its edges, beyond which it continues",
        Number("pixels beyond each edge", _margins, 16, 96, "margin"),
        bench=(BenchCase("margins of 16", Outpainting(16, 16, 16, 16)),),
        gallery=(GalleryCase("margins of 24", Outpainting(24, 24, 24, 24)),),
    ),
    # Incomplete recording by the camera.
    Degradation(
        Colorization,
        "black-and-white, so that only the brightness is known",
        bench=(BenchCase("grey", Colorization()),),
        gallery=(GalleryCase("equal weights", Colorization()),),
    ),
    Degradation(
        Interlace,
        "interlaced, so that only every other row is known",
        bench=(BenchCase("interlaced", Interlace()),),
        gallery=(GalleryCase("top field", Interlace()),),
    ),
    Degradation(
        Bayer,
        "a camera's raw mosaic, with one of three colours at every pixel",
        bench=(BenchCase("Bayer mosaic", Bayer()),),
        gallery=(GalleryCase("RGGB", Bayer()),),
    ),
    # Compressed sensing.
    Degradation(
        WalshHadamard,
        "measured as a few random numbers, each from the whole picture",
        SENSING,
        bench=(BenchCase("Walsh-Hadamard, 25 %", WalshHadamard(0.25)),),
        gallery=(GalleryCase("ratio 0.25, projected", WalshHadamard(0.25)),),
    ),
    Degradation(
        BlockSensing,
        "measured as a few random numbers for every 32 x 32 pixels",
        SENSING,
        bench=(BenchCase("blocks of 32, 25 %", BlockSensing(0.25)),),
        gallery=(GalleryCase("ratio 0.25, projected", BlockSensing(0.25)),),
    ),
    # Rounding and clipping.
    Degradation(
        Jpeg,
        "strongly compressed, as a JPEG file",
        Number("quality, from 1 (bad) to 100 (good)", "quality", 10, 10),
        bench=(BenchCase("JPEG, quality 10", Jpeg(10), assumed_noise=0.06),),
        gallery=(GalleryCase("quality 10, 4:2:0", Jpeg(10)),),
    ),
    Degradation(
        Quantise,
        "posterised, with few levels of red, green and blue",
        Number("number of levels, from 2", "levels", 4, 4),
        bench=(BenchCase("6 levels", Quantise(6), assumed_noise=0.12),),
        gallery=(GalleryCase("4 levels", Quantise(4)),),
    ),
    Degradation(
        Clip,
        "overexposed, so that the brightest third is lost",
        bench=(BenchCase("overexposed", Clip(-1.0, 0.3)),),
        gallery=(GalleryCase("high 0.3", Clip()),),
    ),
    # Noise only.
    Degradation(
        Identity,
        "sharp and complete, only noisy",
        bench=(BenchCase("noise only", Identity(), blind="noise"),),
    ),
)
"""The rows, in the order shown to users."""


def _dropped(number: float) -> dict[str, Any]:
    if not 2 <= number <= 64 or number != int(number):
        raise ValueError(f"the number is {number:g}; expected a whole number from 2 to 64")
    return {"film": int(number), "seen": tuple(range(int(number) - 1))}


FILM: tuple[Degradation, ...] = (
    Degradation(Fields, "interlaced, so that the two fields of a frame are of different instants"),
    Degradation(
        Exposure,
        "exposed for long, so that a frame is the mean of several instants",
        Number("how many instants a frame is the mean of", "frames", 2, 2),
    ),
    Degradation(
        Cadence,
        "without some of its frames, or with some of them twice in place of others",
        Number("of how many frames the last one is missing", _dropped, 4, 4),
    ),
    Degradation(Flicker, "flickering, so that every frame has a brightness of its own"),
    Degradation(Dust, "dusty, so that every frame lacks other parts", file="masks"),
)
"""The rows of what happens to a film over time, apart from what happens to its frames."""

REGISTRY: dict[str, Degradation] = {row.name: row for row in DEGRADATIONS}
"""The rows by name, as in ``Recipe.to_dict``."""
TASKS = tuple(row.name for row in DEGRADATIONS if not row.file)
"""Names of the tasks that are defined by a number and a seed, without a file."""
OVER_TIME: dict[str, Degradation] = {row.name: row for row in FILM}
"""The rows of ``FILM`` by name."""
FROM_FILES = {row.name: row.file for row in DEGRADATIONS if row.file}
"""Names of the tasks that need a file, and its content: "mask" or "kernel"."""


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Inverse of ``Recipe.to_dict``; ValueError for an unknown operator or parameter."""
    if not isinstance(values, dict):
        raise ValueError(f"cannot read the operator {values!r}; expected names with values")
    rest = {key: value for key, value in values.items() if key != "operator"}
    name = str(values.get("operator"))
    if name == Chain.name:
        parts = rest.get("recipes")
        if not isinstance(parts, list | tuple):
            raise ValueError(f"the recipes of a chain are {parts!r}; expected a list")
        return Chain(tuple(recipe_from_dict(each) for each in parts))
    kind = OVER_TIME[name].recipe if name in OVER_TIME else _row(name, tuple(REGISTRY)).recipe
    hints = get_type_hints(kind)
    for key, value in rest.items():
        if key in hints and not _fits(value, hints[key]):
            raise ValueError(f"the {key} of {name} is {value!r}; expected {kind_of(hints[key])}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in rest.items()})
    except TypeError as error:
        raise ValueError(f"cannot read the operator {name}: {error}") from error


def kind_of(hint: Any) -> str:
    """A type in words, as far as the fields of recipes have them."""
    if get_args(hint) and get_origin(hint) is not tuple:
        return " or ".join(kind_of(each) for each in get_args(hint))
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(hint, "nothing" if hint is type(None) else "numbers")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of the type ``hint``, and finite."""
    if get_origin(hint) is tuple:
        given = isinstance(value, list | tuple)
        return given and all(_fits(each, get_args(hint)[0]) for each in value)
    if get_args(hint):
        return any(_fits(value, each) for each in get_args(hint))
    if hint in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and -1e300 < value < 1e300
    return isinstance(value, hint)


def recipe_for_task(task: str, deg_scale: float | None = None, *, seed: int = 0) -> Recipe:
    """The recipe of one of ``TASKS``, as in the paper's command line.

    ``deg_scale`` is the number of the task, described by ``Number.meaning`` and ignored by tasks
    without one; None: the recipe's defaults. ``seed`` is used by random degradations only.
    ValueError for an unknown task or a number out of range.
    """
    return _row(task, TASKS).make(deg_scale, seed=seed)


def meanings() -> dict[str, list[str]]:
    """The meanings of ``deg_scale``, each with the names of its tasks."""
    found: dict[str, list[str]] = {}
    for row in DEGRADATIONS:
        if row.number is not None:
            found.setdefault(row.number.meaning, []).append(row.name)
    return found


def _row(name: str, names: tuple[str, ...]) -> Degradation:
    if name not in names:
        raise ValueError(f"unknown task {name!r}; expected one of {', '.join(names)}")
    return REGISTRY[name]
