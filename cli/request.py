"""What a command line asks for."""

from __future__ import annotations

import argparse
import dataclasses

from ..operators import TASKS, Kernel, Mask, recipe_for_task
from ..operators.kernel import trimmed
from ..restoration.degradation import Damage, recipe_from_picture
from ..restoration.pipeline import Request
from ..samplers import preset

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
