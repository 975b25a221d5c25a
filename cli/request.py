"""Requests and runs from command-line arguments."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

from .. import __version__
from ..estimation.registry import ESTIMATORS
from ..operators import REGISTRY
from ..operators.registry import FROM_FILES
from ..priors.base import FlowPrior
from ..priors.built_in import PHOTO, built_in
from ..priors.device import device_named, dtype_named
from ..restoration.decision import Decision
from ..restoration.degradation import Damage
from ..restoration.diagnosis import EFFORTS, Wish
from ..restoration.painted import kernel_in, mask_in
from ..restoration.pipeline import Request
from ..samplers import method_named, override, preset
from .arguments import parse
from .engines import Engine, Graph
from .results import digest
from .work import Task, Work, recorded

SIDE = {"small": 128, "large": 768}
"""Shorter side in pixels to which clean photos are shrunk, for the built-in and large models."""


WISHES = ("wrong", "strength", "invent", "enlarge", "effort", "sensitivity")
"""The options that are values of a ``Wish``."""
STATED = ("task", "estimate", "kernel")
"""The options that state the damage, so that it is not looked for."""


SIZES = ("size", "width", "height")
"""The options that give the size of the restoration."""


def size_of(args: argparse.Namespace) -> tuple[int, int] | None:
    """(height, width) of the restoration, by --size or by --width and --height; None: not given.

    ValueError for one of the two alone, and for both ways at once.
    """
    given = _given(args, *SIZES)
    if "--size" in given and len(given) > 1:
        raise ValueError(f"--size and {given[1]} both give the size: choose one")
    if len(given) == 1 and "--size" not in given:
        (other,) = {"--width", "--height"} - set(given)
        raise ValueError(f"{given[0]} is given alone: add {other}")
    if not given:
        return None
    return (args.size, args.size) if args.size is not None else (args.height, args.width)


def _given(args: argparse.Namespace, *options: str) -> list[str]:
    """Those of the options that are given, as they are written."""
    return [f"--{each.replace('_', '-')}" for each in options if getattr(args, each) is not None]


def wish_of(args: argparse.Namespace) -> Wish | None:
    """What is said of photos whose damage is to be found; None where it is stated.

    A mask alone states it: the task is then inpainting. ValueError for options that exclude each
    other, and for values out of range.
    """
    wishes, stated = _given(args, *WISHES), _given(args, *STATED)
    if not wishes and (stated or args.mask is not None):
        return None
    if wishes and stated:
        raise ValueError(
            f"{wishes[0]} is for photos whose damage is found, and {stated[0]} states it: choose"
            " one"
        )
    if sides := _given(args, *SIZES):
        raise ValueError(
            f"{sides[0]} resizes the photos, and what is wrong with them can only be found at their"
            " own size: leave it out, or name a --task"
        )
    if args.deg_scale is not None:
        raise ValueError("--deg-scale is the number of a task: add --task, or leave it out")
    for one, other in (("effort", "preset"), ("invent", "denoise")):
        if len(both := _given(args, one, other)) == 2:
            raise ValueError(f"{both[0]} and {both[1]} say the same: choose one")
    own = _given(args, "invent", "effort")
    if own and args.method != "refine":
        raise ValueError(f"{own[0]} is for the method refine, and not for {args.method}")
    values = {name: getattr(args, name) for name in WISHES}
    return Wish(**{name: value for name, value in values.items() if value is not None})


def preset_of(args: argparse.Namespace) -> str | None:
    """The preset by its name: --preset, or that of --effort; None is the method's default."""
    return args.preset or (EFFORTS[args.effort] if args.effort else None)


def model_of(args: argparse.Namespace) -> str | None:
    """The model: --prior, or for photos whose damage is found, the one for photos."""
    return args.prior or (None if wish_of(args) is None else PHOTO.name)


def task_of(args: argparse.Namespace) -> str | None:
    """The task given by --task, or implied by --mask, --kernel or --estimate; None where the damage
    is found in each photo.

    ValueError for an unknown task, and for one whose file is not given.
    """
    if wish_of(args) is not None:
        return None
    meant = [task for task, option in FROM_FILES.items() if getattr(args, option) is not None]
    task: str = args.task or (meant[-1] if meant else "identity")
    if task not in REGISTRY:
        raise ValueError(f"unknown task {task!r}; expected one of {', '.join(REGISTRY)}")
    if task in FROM_FILES and task not in meant:
        raise ValueError(f"--task {task} needs --{FROM_FILES[task]} FILE; see restore --help")
    return task


def damage_of(args: argparse.Namespace, *, large: bool) -> Damage:
    """The degradation given by the arguments: kernel, task, mask and estimators.

    ``large``: whether the model is large, which selects the default of --deg-scale. ValueError for
    contradictory options.
    """
    name, estimate = task_of(args), tuple(args.estimate or ())
    if estimate and not args.observed:
        raise ValueError("--estimate looks at photos as they are: add --observed")
    if estimate and (sides := _given(args, *SIZES)):
        raise ValueError(f"--estimate needs photos at their own size: leave {sides[0]} out")
    blurs = [each for each in estimate if ESTIMATORS[each].place == "blur"]
    if blurs and args.kernel is not None:
        raise ValueError(f"--estimate {blurs[0]} and --kernel both give the blur: choose one")
    if "jpeg" in estimate and name == "jpeg":
        raise ValueError("--estimate jpeg and --task jpeg say the same: choose one")
    blur = task = mask = None
    notes: list[str] = []
    if args.kernel is not None:
        blur, told = kernel_in(args.kernel)
        notes += told
    if name is not None and name not in FROM_FILES:
        row = REGISTRY[name]
        number = row.default(large=large) if args.deg_scale is None else args.deg_scale
        task = row.make(number, seed=args.seed)
    if args.mask is not None:
        mask, told = mask_in(args.mask)
        notes += told
    return Damage(blur, task, mask, estimate, args.noise, args.kernel_size, tuple(notes))


def request_of(args: argparse.Namespace) -> tuple[Request, Damage]:
    """The request and the degradation given by the arguments; ValueError for contradictory options
    or values out of range."""
    large = built_in(model_of(args)) is None
    damage = damage_of(args, large=large)
    settings = override(
        preset(args.method, preset_of(args)),
        step_scale=args.step_scale,
        inner_steps=args.inner_steps,
        stop=args.stop,
        denoise=args.denoise,
    )
    request = Request(
        damage.recipe(),
        args.method,
        settings,
        method_named(args.method).steps if args.steps is None else args.steps,
        damage.noise_level,
        args.seed,
        size_of(args),
        SIDE["large" if large else "small"],
        args.observed or wish_of(args) is not None,
        args.tile,
        args.samples,
        suited=args.denoise is None,
    )
    return request, damage


def weight_of(args: argparse.Namespace) -> float:
    """The weight of guidance: --cfg, or the method's own."""
    return method_named(args.method).cfg if args.cfg is None else args.cfg


def prior_of(args: argparse.Namespace) -> FlowPrior:
    """Load the model given by the arguments; ValueError if it cannot be loaded."""
    from ..priors.diffusers import load_prior

    return load_prior(
        model_of(args),
        device=args.device,
        dtype=args.dtype,
        prompt=args.prompt,
        negative=args.negative,
        cfg=weight_of(args),
        config=args.config,
        memory=args.memory,
        tiny=args.tiny_vae,
    )


def content_of(model: str | None) -> str | None:
    """What tells one content of a model's file or folder from another, by size and date; None for a
    name on the hub.
    """
    if model is None or not Path(model).exists():
        return None
    path = Path(model)
    files = sorted(path.rglob("*")) if path.is_dir() else [path, path.with_suffix(".spectrum.json")]
    stats = [(str(file.relative_to(path.parent)), file.stat()) for file in files if file.is_file()]
    return digest(repr([(name, s.st_size, s.st_mtime_ns) for name, s in stats]).encode())


def task_for(args: argparse.Namespace) -> Task:
    """The task given by the arguments; ValueError for contradictory options or bad values."""
    if args.batch < 0:
        raise ValueError(f"--batch is {args.batch}; expected 0 (as many as suit) or more")
    request, damage = request_of(args)
    wish, device = wish_of(args), device_named(args.device)
    record = {
        "task": task_of(args),
        "operator": request.recipe.to_dict(),
        "mask": None if args.mask is None else str(args.mask),
        "kernel": None if args.kernel is None else str(args.kernel),
        "observed": request.observed,
        "estimate": list(damage.estimate),
        "kernel_size": damage.kernel_size,
        "noise": request.noise,
        "noise_given": damage.noise is not None,
        "method": request.method,
        "preset": preset_of(args) or method_named(args.method).default,
        **recorded(request),
        "prior": model_of(args) or "demo",
        "config": args.config,
        "models": [content_of(name) for name in (args.prior, args.config, args.tiny_vae)],
        "prompt": args.prompt,
        "negative": args.negative,
        "cfg": weight_of(args),
        "size": request.size,
        "side": request.side,
        "tile": args.tile,
        "seed": request.seed,
        "device": device.type,
        "dtype": str(dtype_named(args.dtype, device)).removeprefix("torch."),
        # Of the memory modes, only tiny changes the result beyond rounding.
        "guide": args.tiny_vae or "tiny" if args.memory == "tiny" else "vae",
        "version": __version__,
    }
    if args.engine == "comfyui":
        record["engine"] = args.engine  # Another program, with other bits.
    if request.samples > 1:
        record["samples"] = request.samples
    decision = None
    if wish is not None:
        record |= {**asdict(wish), "steps_given": args.steps}
        decision = Decision(wish, damage, args.steps)
    return Task(request, damage, partial(prior_of, args), record, args.batch, decision)


ON_SERVERS = ("inputs", "out", "seed", "prior", "prompt", "engine", "server", "batch", *WISHES)
"""The options that ``--engine comfyui`` knows: the others are not of the node Restore Photo."""


def graph_of(args: argparse.Namespace) -> Graph:
    """What a server is asked to do with a photo; ValueError for options that it does not know."""
    usual = vars(parse(["restore", "x"]))
    for name, value in vars(args).items():
        if name not in ON_SERVERS and value != usual[name]:
            raise ValueError(
                f"--{name.replace('_', '-')} is not for --engine comfyui, where the node Restore"
                " Photo finds out what is wrong; leave it out"
            )
    row = built_in(model_of(args))
    if row is not None and args.prompt:
        raise ValueError(f"the prior {row.name} takes no prompt; leave --prompt out")
    wish = wish_of(args) or Wish()
    model = row.title if row is not None else str(args.prior)
    return Graph(model, {**asdict(wish), "seed": args.seed}, args.prompt)


def engine_of(args: argparse.Namespace, task: Task) -> Engine:
    """The engine that restores, which is imported only now."""
    for option, engine in (("ray_address", "ray"), ("workers", "ray"), ("server", "comfyui")):
        if args.engine != engine and _given(args, option):
            raise ValueError(f"{_given(args, option)[0]} is for --engine {engine}")
    if args.engine == "comfyui":
        from .engines.comfyui import Servers

        return Servers(task, graph_of(args), args.server or [])
    if args.engine == "ray":
        from .engines.cluster import Cluster

        return Cluster(task, args.ray_address, args.workers or 0)
    from .engines.plain import Plain

    return Plain(Work(task))
