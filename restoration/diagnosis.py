"""What is wrong with a photo, and how to restore it, from a few plain words."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..estimation.blur import estimate_blur
from ..estimation.combing import combed
from ..estimation.families import FAMILIES
from ..estimation.fineness import could_be_smaller
from ..estimation.free import estimate_free_kernel
from ..estimation.jpeg_pixels import jpeg_from_pixels
from ..estimation.noise import overall_noise
from ..estimation.progress import SILENT, Progress
from ..estimation.registry import KERNEL_SIZE
from ..estimation.rounding import rounded_away
from ..estimation.scratches import find_scratches
from ..operators import AveragePool, Identity, Interlace, Mask, Recipe
from ..priors.error_spectrum import ErrorSpectrum
from ..samplers import RefineSettings, method_named
from .degradation import Damage

BY_ITSELF = "find out by itself"
WRONGS: dict[str, tuple[str, ...]] = {
    BY_ITSELF: ("noise", "combs", "jpeg", "blur"),
    "blurred": ("noise", "blur"),
    "shaken": ("noise", "shake"),
    "grainy": ("noise",),
    "small": ("noise", "size"),
    "bad JPEG": ("noise", "jpeg"),
    "scratched": ("noise", "scratches"),
    "old video": ("noise", "lines"),
    "several at once": ("noise", "blur", "jpeg", "scratches"),
}
"""What can be wrong with a photo, and what is looked for in it then."""
STRENGTHS = {"gentle": 0.7, "as found": 1.0, "strong": 1.4}
"""By how much the grain that was found is multiplied, and the width of a blur by its root."""
EFFORTS = {"normal": "tuned", "fast": "fast", "thorough": "thorough"}
"""The preset of Refine for every effort."""
USUAL_SCALE = 4
"""How much a small photo grows where nobody says another number."""
CLEAN, GOOD = 0.008, 0.02
"""Noise of a photo that needs no repair: below one grey level of 255, or below two and a half if
nobody says that it is grainy."""
LEAST_NOISE = 0.005
LOOKED_AT = 1024
"""Side in pixels of the middle part in which a blur is looked for: larger ones take long."""
ANY_SHAPE = 640
"""The same for a blur of any shape."""
SMALLEST = 48
"""Shortest side of a photo, in pixels, in which a blur is looked for."""
SOFT = {"gaussian": 0.9, "defocus": 1.3, "motion": 3.0}
"""Widths in pixels below which a blur is left as it is, unless the user says that there is one: a
photo that was made smaller can be as soft."""
LOW_QUALITY = 90
"""A JPEG of a higher quality needs no repair."""
MANY_SCRATCHES = 0.2
"""Fraction of a photo; more is texture that was taken for scratches."""
COMBED, PERHAPS_COMBED = 0.02, 0.005
"""Part of a photo with combs that makes it old video by itself, or is told."""
PERHAPS_SCRATCHED = 0.02
"""Fraction of a photo that looks scratched from which this is told. Nothing is mended by itself
then: twigs on snow look the same."""
CAREFUL = 0.2
"""By how much less sensitive that search is."""
HEALTHY = "There is nothing to repair: the photo is passed on as it is."


@dataclass(frozen=True)
class Wish:
    """What the user says of a photo.

    wrong: a key of ``WRONGS``. strength: a key of ``STRENGTHS``. effort: a key of ``EFFORTS``.
    invent: 0, only what the photo tells, to 1, from noise alone.
    enlarge: by how much the photo grows; 0 is automatic: four times if it is small, else not.
    sensitivity: of the search for scratches, 0 to 1.

    ValueError for another value, and for old video that is to grow.
    """

    wrong: str = BY_ITSELF
    strength: str = "as found"
    effort: str = "normal"
    invent: float = 0.5
    enlarge: int = 0
    sensitivity: float = 0.5

    def __post_init__(self) -> None:
        for name, known in (("wrong", WRONGS), ("strength", STRENGTHS), ("effort", EFFORTS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}")
        for name in ("invent", "sensitivity"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1")
        if self.enlarge not in range(17):
            raise ValueError(
                f"enlarge is {self.enlarge}; expected a whole number from 0 (automatic) to 16"
            )
        if "lines" in WRONGS[self.wrong] and self.scale > 1:
            raise ValueError(
                "old video cannot be enlarged in one go: restore it first, and then enlarge it as"
                " small"
            )

    @property
    def scale(self) -> int:
        """By how much the photo grows."""
        return self.enlarge or (USUAL_SCALE if "size" in WRONGS[self.wrong] else 1)

    def plan(self, spectrum: ErrorSpectrum | None = None) -> tuple[RefineSettings, Tensor]:
        """The settings of Refine, and its noise levels, float64, falling to 0.

        spectrum: that of the model; its noise levels are taken, or those of the preset where it
        has none. ``invent`` moves the first one: to a third of it for 0, to
        1 for 1.
        """
        row = method_named("refine")
        settings: RefineSettings = row.preset(EFFORTS[self.effort])
        eased = 1.0
        first, last = settings.denoise, settings.last
        if spectrum is not None and spectrum.refine is not None:
            (first, last), eased = spectrum.refine, spectrum.eased
        if self.invent < 0.5:
            first *= 3 ** (2 * self.invent - 1)
        else:
            first **= 2 - 2 * self.invent
        settings = dataclasses.replace(
            settings, denoise=round(first, 3), last=min(first, last), eased=eased
        )
        return settings, row.levels(settings, max(row.steps, round(10 * first)))


@dataclass
class Diagnosis:
    """What is wrong with a photo.

    recipe: the degradation. noise_level: standard deviation for images in [-1, 1].
    found: what was found, in sentences. warnings: what is doubtful, and what was done then.
    lost: where the photo is lost, float32 (H, W), 1 there; None: nowhere. only_lost: whether that
        is all that is wrong, so that the other pixels stay as they are. healthy: whether nothing is
        wrong.
    """

    recipe: Recipe = field(default_factory=Identity)
    noise_level: float = 0.0
    found: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lost: Tensor | None = None
    only_lost: bool = False
    healthy: bool = False

    @property
    def sentences(self) -> list[str]:
        """All that is to be said: what was found and done, and then the warnings."""
        healthy = [HEALTHY] if self.healthy else []
        return [*self.found, *healthy, *(f"Beware: {each}" for each in self.warnings)]


def _middle(x: Tensor, side: int) -> Tensor:
    """The middle part of x (1, C, H, W), at most ``side`` pixels wide and high."""
    top, left = (max(0, n - side) // 2 for n in x.shape[2:])
    return x[..., top : top + side, left : left + side]


PLAINLY = {
    "gaussian": "softly, by a Gaussian of sigma {:.1f}",
    "defocus": "as by a lens out of focus, to disks of radius {:.1f}",
    "motion": "by a straight motion of {:.1f} pixels at {:.0f} degrees",
}


def _blur(x: Tensor, wish: Wish, diagnosis: Diagnosis, progress: Progress) -> Recipe | None:
    """The blur of x, with sentences on it."""
    shaken = "shake" in WRONGS[wish.wrong]
    if min(x.shape[2:]) < SMALLEST:
        diagnosis.warnings.append(
            f"The photo is too small to find its blur: at least {SMALLEST} pixels a side are"
            " needed. No blur is undone."
        )
        return None
    try:
        families = ("motion",) if shaken else tuple(FAMILIES)
        first = progress.part(0, 0.3 if shaken else 1)
        blur = estimate_blur(_middle(x, LOOKED_AT), families=families, progress=first)
        if blur.family == "none":
            rest = progress.part(0.3, 1)
            return _crooked(x, diagnosis, rest) if shaken else _sharp(diagnosis)
    except ValueError:
        diagnosis.warnings.append("The photo has too little detail to find its blur.")
        return None
    values = tuple(blur.parameters.values())
    diagnosis.found.append(f"It is blurred {PLAINLY[blur.family].format(*values)}.")
    if wish.wrong == BY_ITSELF and values[0] < SOFT[blur.family]:
        diagnosis.found[-1] += " That is little, and is left."
        return None
    width = values[0] * math.sqrt(STRENGTHS[wish.strength])
    return FAMILIES[blur.family].recipe(width, *values[1:])


def _sharp(diagnosis: Diagnosis) -> None:
    diagnosis.found.append("It is sharp, or its blur cannot be told.")


def _crooked(x: Tensor, diagnosis: Diagnosis, progress: Progress) -> Recipe | None:
    """A blur of any shape, if it can be trusted."""
    free = estimate_free_kernel(_middle(x, ANY_SHAPE), KERNEL_SIZE, progress=progress)
    if free.trusted:
        diagnosis.found.append("It is blurred by a crooked shake.")
        return free.recipe
    diagnosis.warnings.append(
        "No shake was found that can be trusted, and none is undone, since the picture would ring."
        " If you know a point of light in it, paint over it for Estimate Blur Kernel."
    )
    return None


def _jpeg(
    x: Tensor, wish: Wish, diagnosis: Diagnosis, progress: Progress
) -> tuple[Recipe | None, float]:
    """How x was compressed, and how much was lost, with sentences on it."""
    told = jpeg_from_pixels(x, progress.part(0, 0.7))
    if told is None:
        if wish.wrong == "bad JPEG":
            diagnosis.warnings.append(
                "No traces of JPEG were found: it was resized or saved again since. What is left"
                " is treated as grain; give the original file where you can."
            )
        return None, 0.0
    if told.quality >= LOW_QUALITY:
        diagnosis.found.append(f"It is a JPEG of good quality ({told.quality}).")
        return None, 0.0
    diagnosis.found.append(f"It is a JPEG of quality {told.quality} of 100.")
    return told.recipe, rounded_away(told.recipe, x, progress.part(0.7, 1))


def _combs(x: Tensor, wish: Wish, diagnosis: Diagnosis) -> bool:
    """Whether x is plainly old video, with sentences on it."""
    if min(x.shape[2:]) < SMALLEST:
        return False
    part = combed(x)
    if part >= COMBED and wish.scale == 1:
        diagnosis.found.append(f"It is old video: {part:.0%} of it has combs, line by line.")
        return True
    if part >= PERHAPS_COMBED:
        first = ", before you enlarge it" if wish.scale > 1 else ""
        diagnosis.warnings.append(
            f'{part:.1%} of it has combs, line by line. If it is from a video, choose "old'
            f' video"{first}.'
        )
    return False


def _fineness(x: Tensor, diagnosis: Diagnosis) -> None:
    """A sentence on a photo that could be smaller."""
    times = could_be_smaller(x) if min(x.shape[2:]) >= SMALLEST else 1
    if times > 1:
        width, height = (round(n / times) for n in (x.shape[3], x.shape[2]))
        diagnosis.found.append(
            f"It has no finer detail than a photo of {width}x{height} pixels (width x height). If"
            ' it was enlarged, make it that small again, and choose "small".'
        )


def _perhaps_scratched(x: Tensor, wish: Wish, diagnosis: Diagnosis, progress: Progress) -> None:
    """A sentence on what may be scratches, in the middle of x, since large photos take long."""
    if min(x.shape[2:]) < SMALLEST:
        return
    sensitivity = max(0.0, wish.sensitivity - CAREFUL)
    part = float(find_scratches(_middle(x, LOOKED_AT), sensitivity, progress=progress).mean())
    if PERHAPS_SCRATCHED <= part <= MANY_SCRATCHES:
        diagnosis.found.append(
            f"Thin lines or specks on {part:.1%} of it may be scratches. If they are, choose"
            ' "scratched" or "several at once".'
        )


def _lost(
    x: Tensor, wish: Wish, painted: Tensor | None, diagnosis: Diagnosis, progress: Progress
) -> Tensor | None:
    """Where x is lost: painted, or scratched."""
    lost = None
    if painted is not None and bool((painted > 0.1).any()):
        lost = (painted > 0.1).float()
        diagnosis.found.append(f"{float(lost.mean()):.1%} of it is painted over as lost.")
    elif "scratches" in WRONGS[wish.wrong]:
        lost = find_scratches(x, wish.sensitivity, progress=progress)
        part = float(lost.mean())
        if not part:
            diagnosis.found.append("No scratches were found.")
            return None
        if part > MANY_SCRATCHES:
            diagnosis.warnings.append(
                f"{part:.0%} of the photo looks like scratches, which must be texture: none are"
                " mended. Lower the sensitivity, or paint a mask."
            )
            return None
        diagnosis.found.append(f"Scratches were found on {part:.1%} of it.")
    elif wish.wrong == BY_ITSELF:
        _perhaps_scratched(x, wish, diagnosis, progress)
    return lost


@torch.no_grad()
def diagnose(
    x: Tensor, wish: Wish, painted: Tensor | None = None, progress: Progress = SILENT
) -> Diagnosis:
    """What is wrong with one photo x (1, 3, H, W) in [-1, 1], at its own size.

    painted: where the photo is lost, (H, W) from 0 to 1. ``progress`` may stop it. ValueError for
    a photo below 16 pixels a side.
    """
    if min(x.shape[2:]) < 16:
        raise ValueError(
            f"the photo is {x.shape[3]}x{x.shape[2]} pixels (width x height); expected at least 16"
            " a side: give a larger photo"
        )
    looks = WRONGS[wish.wrong]
    diagnosis = Diagnosis()
    progress(0)
    level = overall_noise(x, progress.part(0, 0))
    diagnosis.found.append(f"Its grain is {level * 127.5:.1f} of 255 grey levels.")
    level *= STRENGTHS[wish.strength]
    jpeg, removed = (None, 0.0)
    progress(0.05)
    video = "lines" in looks or ("combs" in looks and _combs(x, wish, diagnosis))
    if "jpeg" in looks and not video:
        jpeg, removed = _jpeg(x, wish, diagnosis, progress.part(0.1, 0.3))
    blur = task = None
    if {"blur", "shake"} & set(looks):
        # Blocks and combs look like edges: no blur can be told from them.
        if video:
            diagnosis.found.append("Blur and JPEG were not looked for, as the combs hide them.")
        elif jpeg is not None and wish.wrong == BY_ITSELF:
            diagnosis.found.append("A blur was not looked for, as the blocks of JPEG hide it.")
        else:
            blur = _blur(x, wish, diagnosis, progress.part(0.3, 0.8))
    if wish.scale > 1:
        task = AveragePool(wish.scale)
        diagnosis.found.append(f"It is enlarged {wish.scale} times.")
    whole = blur is None and jpeg is None and wish.scale == 1
    if wish.wrong == BY_ITSELF and whole and not video:
        _fineness(x, diagnosis)
    if video:
        task = Interlace("top")
        diagnosis.found.append("Every second line, which is from another instant, is made new.")
    diagnosis.lost = _lost(x, wish, painted, diagnosis, progress.part(0.8, 1))
    mask = None if diagnosis.lost is None else Mask.from_painted(diagnosis.lost)
    diagnosis.recipe = Damage(blur, task, mask).recipe(jpeg=jpeg)
    enough = CLEAN if wish.wrong == "grainy" else GOOD
    diagnosis.healthy = level <= enough and diagnosis.recipe == Identity()
    diagnosis.only_lost = wish.wrong == "scratched" and isinstance(diagnosis.recipe, Mask)
    diagnosis.noise_level = max(level, removed, LEAST_NOISE)
    return diagnosis
